"""Commands in documents are commands, whose options are known and values fit; links lead on."""

import re
import shlex
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from transfer import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [*DOCUMENTS, *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"))]
_COMMAND = (
    r"transfer (?:eval|evolve|pretrain|collect|plan|inspect|import|report|doctor|get|calibrate"
    r"|record|leaderboard)\b"
)


def commands():
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for found in re.findall(
            rf"^(?:\$ )?{_COMMAND}[^\n]+|`{_COMMAND}[^`]+`", text, re.MULTILINE
        ):
            line = " ".join(found.strip("`$ ").partition("#")[0].split())
            # The name of a command alone is not one to run.
            if " --" in line and not re.search(
                r"\b(FILE|DIR|RUN|OUT|MODEL|PATH|COMMAND|NAME)\b|\.\.\.| \| ", line
            ):
                yield line


@pytest.mark.parametrize("line", dict.fromkeys(commands()))
def test_it_parses(line, monkeypatch):
    # Pages name things of one's own by the modules that they show.
    monkeypatch.syspath_prepend(ROOT / "examples")
    config, run = cli.parse(shlex.split(line)[1:])
    assert is_dataclass(config) and callable(run)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)\s#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []

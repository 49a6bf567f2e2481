"""The commands of the documents are commands: each one's options are known and its values fit."""

import re
import shlex
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from transfer import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
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
def test_it_parses(line):
    config, run = cli.parse(shlex.split(line)[1:])
    assert is_dataclass(config) and callable(run)

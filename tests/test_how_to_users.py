"""What the pages for users of other tools show is what happens."""

import re
import shlex
from pathlib import Path

import pytest

from transfer.cli import main

PAGES = Path(__file__).parents[1] / "docs" / "how-to"


@pytest.mark.parametrize("page", ["save-a-cache", "read-results"])
def test_the_python_of_a_page_prints_what_it_shows(page, capsys, tmp_path, monkeypatch):
    text = (PAGES / f"{page}.md").read_text()
    monkeypatch.chdir(tmp_path)
    for line in re.findall(r"```sh\n(transfer .*)\n```", text):
        assert main(shlex.split(line)[1:]) == 0
    capsys.readouterr()
    names = {}
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", text, re.DOTALL)
    assert any(shown for _, shown in blocks)
    for code, shown in blocks:
        exec(compile(code, page, "exec"), names)
        assert capsys.readouterr().out == shown

"""The README's support matrix: every cell is what its check finds."""

import re
from pathlib import Path

import pytest
import support

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
[SHOWN] = re.findall(r"<!-- support -->\n(.*?)\n<!-- /support -->", README, re.DOTALL)
HEAD, _, *LINES = [re.split(r" *\| *", line.strip("| ")) for line in SHOWN.splitlines()]
CELLS = [(line[0], column, cell) for line in LINES for column, cell in zip(HEAD, line[1:])]

pytestmark = pytest.mark.filterwarnings("ignore")


def test_all_rows_and_columns_are_shown():
    assert list(support.COLUMNS) == HEAD
    assert list(support.ROWS) == [line[0] for line in LINES]


@pytest.mark.parametrize(("name", "column", "shown"), CELLS)
def test_a_cell(name, column, shown):
    assert support.cell(support.ROWS[name], column) == shown

"""One page of HTML for any runs: tables that sort and filter, figures, items, and where from."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from transfer.errors import UserError
from transfer.evaluation.store import Row
from transfer.pages import embedded, page, part
from transfer.report.figures import SECTIONS, figures
from transfer.report.items import items
from transfer.report.lines import lines
from transfer.report.runs import Evaluated, Run
from transfer.report.vega import ACROSS, COLOURS

_HERE = "transfer.report"
#: Bytes of what a page says, so that with the script that draws it stays under 3 MB.
_ROOM = 1_900_000


def build(runs: Sequence[Run], title: str) -> str:
    """The page; the same runs make the same bytes.

    Raises:
        UserError: vl-convert, which draws, is not installed.
    """
    script = drawing_script()
    style, own = part(_HERE, "report.css"), part(_HERE, "report.js")
    return page(title, style, (script, own), content(runs, title))


def content(runs: Sequence[Run], title: str) -> Row:
    """What the page says, as data."""
    found = all_lines(runs)
    told = {
        "title": title,
        "runs": [run.told() for run in runs],
        "lines": found,
        "figures": [figure.as_json() for figure in figures(runs, found)],
        "sections": [
            {"name": name, "title": head, "words": words, "drawing": drawing}
            for name, (head, words, drawing) in SECTIONS.items()
        ],
        "across": [dict(zip(("field", "words", "unit"), each)) for each in ACROSS],
        "colours": COLOURS,
    }
    return told | {"items": items(runs, max(0, _ROOM - len(embedded(told).encode())))}


def all_lines(runs: Sequence[Run]) -> list[Row]:
    """Those of all evaluations."""
    return [
        line
        for number, run in enumerate(runs)
        if isinstance(run, Evaluated)
        for line in lines(number, run.results)
    ]


@cache
def drawing_script() -> str:
    """Vega, Vega-Lite and vega-embed in one script; it takes two seconds to put together.

    Raises:
        UserError: vl-convert is not installed.
    """
    return converter().javascript_bundle()


def converter() -> Any:
    """The module that draws.

    Raises:
        UserError: it is not installed.
    """
    try:
        import vl_convert  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "vl-convert is not installed, which draws; run `pip install namm-transfer[report]`"
        ) from error
    return vl_convert

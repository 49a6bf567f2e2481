"""What the tests of evaluations share: configurations by flat keywords, and rows without times."""

from dataclasses import replace
from typing import Any, TypeVar

from rich.console import Console

from transfer.evaluation.layouts import tables
from transfer.evaluation.options import EvalConfig
from transfer.evaluation.store import Results

C = TypeVar("C", bound=EvalConfig)


def changed(config: C, **options: Any) -> C:
    """The configuration with some options replaced, wherever they are nested."""
    for part in ("contenders", "run"):
        whole = getattr(config, part, None)
        own = {name: options.pop(name) for name in list(options) if hasattr(whole, name)}
        if own:
            options[part] = replace(whole, **own)
    return replace(config, **options)


def timeless(lines) -> list[dict]:
    """Rows or entries without what no run repeats."""
    return [
        {name: value for name, value in line.items() if not name.endswith("seconds")}
        for line in lines
    ]


def rows_of(results: Results, policy: str, **wanted) -> list[dict]:
    """The rows of one contender."""
    wanted["policy"] = policy
    return [row for row in results.rows if wanted.items() <= row.items()]


def failures_of(results: Results) -> dict:
    """Why each item failed, by the item."""
    return {row["item"]: row["failure"] for row in results.rows if row["failure"] is not None}


def printed(results: Results) -> str:
    """The tables, as a terminal of 100 columns shows them."""
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(tables(results))
    return capture.get()

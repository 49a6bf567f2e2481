"""What the tables on screen share: their look, intervals, and numbers that may be absent."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table

#: Columns that a table has to fit into.
WIDTH = 100


def new_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of the house: names on the left, numbers on the right, wide enough for its title."""
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        min_width=min(len(title), WIDTH),
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    return table


def interval_text(
    mean: float | None,
    low: float | None,
    high: float | None,
    scale: float = 1.0,
    digits: int = 1,
) -> str:
    """`mean [low high]`, each times `scale`; `-` for none, the mean alone without bounds."""
    if mean is None:
        return "-"
    parts = [mean] if low is None or high is None else [mean, low, high]
    # Adding 0.0 turns -0.0 into 0.0.
    first, *bounds = [f"{round(part * scale, digits) + 0.0:.{digits}f}" for part in parts]
    return f"{first} [{' '.join(bounds)}]" if bounds else first


def number_text(value: float | None, form: str, unit: float = 1.0) -> str:
    """A number in units of `unit`; `-` for none."""
    return "-" if value is None else format(value / unit, form)

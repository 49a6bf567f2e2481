"""What is shown while something runs for longer than two seconds: on standard error, for a person.

Where standard error is no terminal, nothing is drawn, and lines that stay are printed all the same.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Seconds over which the time left is estimated: what is counted may take minutes each.
_PERIOD = 600


def bars(*columns: ProgressColumn) -> Progress:
    """Bars with how much is done and how long the rest will take.

    Args:
        columns: instead of a count, and before the times.
    """
    return _drawn(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        *(columns or (MofNCompleteColumn(),)),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what is done meanwhile and since when, where nobody knows how long it takes."""
    with _drawn(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as shown:
        shown.add_task(what, total=None)
        yield


def _drawn(*columns: ProgressColumn) -> Progress:
    return Progress(
        *columns,
        console=Console(file=sys.stderr),
        transient=True,
        # FORCE_COLOR makes a terminal of anything, for rich.
        disable=sys.stderr is None or not sys.stderr.isatty(),
        speed_estimate_period=_PERIOD,
    )

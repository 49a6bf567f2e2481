"""The picture of a run: fitness, validation and kept fraction over the generations."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transfer.errors import UserError
from transfer.evolution.folder import LEDGER_FILE
from transfer.evolution.ledger import Entry, read_ledger
from transfer.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # pyright: ignore[reportMissingImports]
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]


def draw_curve(run: Path) -> "Figure":
    """Draw all seeds of a run, finished or not; save it with the figure's `savefig`.

    Args:
        run: folder of the run.

    Raises:
        UserError: the folder holds no ledger, or matplotlib is not installed.
    """
    ledgers = sorted(run.glob(f"seed-*/{LEDGER_FILE}"))
    if not ledgers:
        raise UserError(f"there is no ledger in {run}; give the folder of a transfer evolve run")
    figure = new_figure(7, 5)
    fitness, kept = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for number, path in enumerate(ledgers):
        records = read_ledger(path)
        _draw_fitness(fitness, records, f"C{number}", path.parent.name)
        kept.plot(_means(records, "kept"), color=f"C{number}", linewidth=1)
    fitness.set_ylabel("fitness")
    fitness.legend(loc="lower right", fontsize="small")
    kept.set_ylabel("kept fraction")
    kept.set_xlabel("generation")
    kept.set_ylim(bottom=0)
    return figure


def _draw_fitness(axes: "Axes", records: list[Entry], color: str, label: str) -> None:
    """Mean of each generation, lightly; validations of the search's mean as points."""
    axes.plot(_means(records, "fitness"), color=color, linewidth=0.8, alpha=0.5)
    validated = [
        (record["generation"], record["validation"]["mean"]["fitness"])
        for record in records
        if record["validation"] and record["validation"]["mean"]["fitness"] is not None
    ]
    # A run that was stopped early has none.
    steps, scores = zip(*validated) if validated else ((), ())
    axes.plot(steps, scores, "o-", color=color, markersize=3, label=f"{label}, held out")


def _means(records: list[Entry], name: str) -> list[float]:
    return [
        float(np.mean([value for value in record[name] if value is not None])) for record in records
    ]

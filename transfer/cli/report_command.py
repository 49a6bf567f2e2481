"""`transfer report`: the tables of an evaluation again, or pictures of it or of an evolution."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from transfer.cli.eval_command import lost_code, print_tables
from transfer.evaluation.curves import curves, draw_curves
from transfer.evaluation.heatmap import draw_heatmap, panels
from transfer.evaluation.held_curves import draw_held, held_curves
from transfer.evaluation.store import Results, read_results
from transfer.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]


@dataclass(frozen=True)
class CONFIG:
    """Print the tables of a finished evaluation again, or draw the curve of an evolution.

    Where an evaluation has several budgets, the scores are drawn against what was held: tokens on
    average and at the peak, and bytes; where it has several lengths and scores by depth, their heat
    map; of control, with several budgets or settings of its environment, the scores against them.

    Args:
        folder: what `transfer eval --out` or `transfer evolve --out` wrote.
    """

    folder: tyro.conf.Positional[Path]


def run(config: CONFIG) -> int:
    """Print the tables, or write `curve.svg` into the folder and print its path.

    Scores against what was held are `held.png` in the folder, a heat map is `heatmap.png`, scores
    of control `budget.png` and `task.png`.
    """
    if not any(config.folder.glob("seed-*/ledger.jsonl")):
        results = read_results(config.folder)
        print_tables(results)
        if results.interrupted:
            print("interrupted: that is what had ended; its command goes on", file=sys.stderr)
        for name, figure in _figures(results):
            _save(figure, config.folder / f"{name}.png")
        return lost_code(results)
    from transfer.evolution.curve import draw_curve

    _save(draw_curve(config.folder), config.folder / "curve.svg")
    return 0


def _figures(results: Results) -> Iterator[tuple[str, "Figure"]]:
    """The pictures of an evaluation with the names of their files."""
    metric = next(iter(results.metrics), "")
    if grid := panels(results):
        yield "heatmap", draw_heatmap(grid, metric)
    held, found = held_curves(results), curves(results)
    if not find_spec("matplotlib"):
        if held or found:
            print("pip install namm-transfer[report] draws this, too", file=sys.stderr)
        return
    for each in found:
        yield each.name, draw_curves(each, metric)
    if held:
        yield "held", draw_held(held, metric)


def _save(figure: "Figure", picture: Path) -> None:
    with replacing(picture) as partial:
        figure.savefig(partial, format=picture.suffix[1:], dpi=150)
    print(picture)

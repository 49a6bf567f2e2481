"""`transfer report`: the tables of an evaluation again, or pictures of it or of an evolution."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from transfer.cli.eval_command import lost_code, print_tables
from transfer.evaluation.curves import curves, draw_curves
from transfer.evaluation.heatmap import draw_heatmap, panels
from transfer.evaluation.store import read_results
from transfer.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]


@dataclass(frozen=True)
class CONFIG:
    """Print the tables of a finished evaluation again, or draw the curve of an evolution.

    Where an evaluation has several lengths and scores by depth, their heat map is drawn, too; of
    control, where it has several budgets or settings of its environment, the scores against them.

    Args:
        folder: what `transfer eval --out` or `transfer evolve --out` wrote.
    """

    folder: tyro.conf.Positional[Path]


def run(config: CONFIG) -> int:
    """Print the tables, or write `curve.svg` into the folder and print its path.

    A heat map is `heatmap.png` in the folder, scores of control `budget.png` and `task.png`.
    """
    if not any(config.folder.glob("seed-*/ledger.jsonl")):
        results = read_results(config.folder)
        print_tables(results)
        if results.interrupted:
            print("interrupted: that is what had ended; its command goes on", file=sys.stderr)
        if grid := panels(results):
            figure = draw_heatmap(grid, results.metrics[0])
            _save(figure, config.folder / "heatmap.png")
        found = curves(results)
        if found and not find_spec("matplotlib"):
            print("pip install namm-transfer[report] draws this, too", file=sys.stderr)
            found = []
        for each in found:
            figure = draw_curves(each, results.metrics[0])
            _save(figure, config.folder / f"{each.name}.png")
        return lost_code(results)
    from transfer.evolution.curve import draw_curve

    _save(draw_curve(config.folder), config.folder / "curve.svg")
    return 0


def _save(figure: "Figure", picture: Path) -> None:
    with replacing(picture) as partial:
        figure.savefig(partial, format=picture.suffix[1:], dpi=150)
    print(picture)

"""`transfer report`: the tables of an evaluation again, or the curve of an evolution."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from transfer.cli.eval_command import print_tables
from transfer.errors import UserError
from transfer.evaluation.store import read_results
from transfer.files import replacing


@dataclass(frozen=True)
class CONFIG:
    """Print the tables of a finished evaluation again, or draw the curve of an evolution.

    Args:
        folder: what `transfer eval --out` or `transfer evolve --out` wrote.
    """

    folder: tyro.conf.Positional[Path]


def run(config: CONFIG) -> int:
    """Print the tables, or write `curve.svg` into the folder and print its path."""
    if not any(config.folder.glob("seed-*/ledger.jsonl")):
        _print_again(config.folder)
        return 0
    from transfer.evolution.curve import draw_curve

    picture = config.folder / "curve.svg"
    with replacing(picture) as partial:
        draw_curve(config.folder).savefig(partial, format="svg")
    print(picture)
    return 0


def _print_again(folder: Path) -> None:
    results = read_results(folder)
    try:
        print_tables(results)
    # The layouts rely on what a run has written.
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{folder} does not hold what a run has written ({error!r}); run its command again"
        ) from error

"""`transfer report`: the tables of an evaluation again, or the curve of an evolution."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from transfer.cli.eval_command import lost_code, print_tables
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
        results = read_results(config.folder)
        print_tables(results)
        if results.interrupted:
            print("interrupted: that is what had ended; its command goes on", file=sys.stderr)
        return lost_code(results)
    from transfer.evolution.curve import draw_curve

    picture = config.folder / "curve.svg"
    with replacing(picture) as partial:
        draw_curve(config.folder).savefig(partial, format="svg")
    print(picture)
    return 0

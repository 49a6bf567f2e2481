"""Run every benchmark: one table each on screen, one JSON file each in `benchmarks/results/`."""

import os
import platform
from datetime import date
from pathlib import Path

# Before torch is imported: a benchmark is of one core.
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import control
from transfer.files import write_json

RESULTS = Path(__file__).parent / "results"


def show(title: str, rows: list[control.Row]) -> None:
    """One table with a column for each field."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


def main() -> None:
    """Run, print and save."""
    rows = control.run()
    title = (
        f"{control.EPISODES} Hopper episodes of {control.STEPS} steps, "
        f"{control.TOGETHER} at once, one thread"
    )
    show(title, rows)
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    content = {"title": title, "date": str(date.today()), "machine": machine, "rows": rows}
    write_json(RESULTS / "control.json", content)


if __name__ == "__main__":
    main()

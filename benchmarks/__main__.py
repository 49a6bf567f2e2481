"""Run benchmarks: a table each on screen, a JSON file each in `benchmarks/results/`.

    python -m benchmarks                      all
    python -m benchmarks features decode      these
    python -m benchmarks real --model FOLDER  one that has options

One core, unless OMP_NUM_THREADS says otherwise.
"""

import os
import platform
import sys
from collections.abc import Callable
from datetime import date
from itertools import dropwhile
from pathlib import Path

# Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import (
    control,
    decode,
    evolution,
    features,
    generate,
    gpu,
    kvpress,
    layer_70b,
    mixed,
    real,
    scoring,
    video,
)
from benchmarks.entry import as_command
from benchmarks.measure import Row
from transfer.errors import UserError, unknown_name
from transfer.files import write_json
from transfer.provenance import versions

RESULTS = Path(__file__).parent / "results"
#: Name -> title, and what measures the rows.
BENCHMARKS: dict[str, tuple[str, Callable[..., list[Row]]]] = {
    "features": (features.TITLE, features.run),
    "decode": (decode.TITLE, decode.run),
    "layer-70b": (layer_70b.TITLE, layer_70b.run),
    "scoring": (scoring.TITLE, scoring.run),
    "evolution": (evolution.TITLE, evolution.run),
    "generate": (generate.TITLE, generate.run),
    "real": (real.TITLE, real.run),
    "control": (control.TITLE, control.run),
    "mixed": (mixed.TITLE, mixed.run),
    "video": (video.TITLE, video.run),
    "kvpress": (kvpress.TITLE, kvpress.run),
    "gpu-features": (gpu.FEATURES_TITLE, gpu.run_features),
    "gpu-decode": (gpu.DECODE_TITLE, gpu.run_decode),
    "generate-1b": (generate.TITLE, generate.run_1b),
}


def show(title: str, rows: list[Row]) -> None:
    """One table with a column for each field."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=220 if not sys.stdout.isatty() else None).print(table)


def machine() -> dict[str, str | int]:
    """What it ran on."""
    names = {line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")}
    return {
        "processor": ", ".join(sorted(names)) or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
        **versions(),
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def main(arguments: list[str]) -> None:
    """Run, print and save."""
    options = [*dropwhile(lambda each: not each.startswith("-"), arguments)]
    names = arguments[: len(arguments) - len(options)]
    if options and names != ["real"]:
        raise UserError(f"{options[0]} is an option of the benchmark real; name that one alone")
    for name in names:
        if name not in BENCHMARKS:
            raise unknown_name("benchmark", name, BENCHMARKS)
    for name in names or BENCHMARKS:
        title, run = BENCHMARKS[name]
        try:
            rows = run(options) if options else run()
        except UserError as error:
            if names:
                raise
            print(f"{name} is left out: {error}")
            continue
        show(title, rows)
        content = {"title": title, "date": str(date.today()), "machine": machine(), "rows": rows}
        write_json(RESULTS / f"{name}.json", content)


if __name__ == "__main__":
    as_command(main)

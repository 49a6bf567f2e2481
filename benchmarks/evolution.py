"""One generation of `transfer evolve` with its defaults, by what it is spent on.

And a small one, all candidates in one pass against one by one.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.measure import Row
from transfer.evolution.config import EvolveConfig
from transfer.evolution.evolve import evolve
from transfer.evolution.ledger import read_ledger

TITLE = "One generation of evolution (16 candidates), median of 8; seconds"
GENERATIONS = 8


def run() -> list[Row]:
    """Defaults, then a population together and one by one."""
    small = EvolveConfig(Path("unused"), tasks=("recall",), documents=1)
    return [
        row("defaults: 3 tasks, 8 documents", EvolveConfig(Path("unused"))),
        row("1 task, 1 document, together", small),
        row("1 task, 1 document, one by one", replace(small, rows=1)),
        row("1 task, 4 documents, together", replace(small, documents=4)),
        row("1 task, 4 documents, one by one", replace(small, documents=4, rows=4)),
    ]


def row(name: str, config: EvolveConfig) -> Row:
    """Median over generations of each part."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        evolve(replace(config, out=out, generations=GENERATIONS, validate_every=GENERATIONS))
        seconds = [record["seconds"] for record in read_ledger(out / "seed-0" / "ledger.jsonl")]
    parts = {part: median(each[part] for each in seconds) for part in seconds[0]}
    return {"setting": name, **{part: round(value, 4) for part, value in parts.items()}}

"""What a NAMM reads, how it scores and how it is searched: one change at a time, several seeds.

    python -m benchmarks.ablations --out DIR --generations 300
    python -m benchmarks.ablations --out DIR --generations 50 --seconds 1800 --rows log universal
    python -m benchmarks.ablations --out DIR --generations 300 --evolve "--tasks prose" \
        --measure "log_likelihood: language --model smollm2-135m --task prose --budget 0.25"

Each row is a `transfer evolve` with its arguments for each seed, and then each measure a
`transfer eval` with the NAMM it made, on held-out data. What is done is not done again: a run that
was stopped goes on with the same command. The table is printed and lies in `DIR/ablations.md`.
"""

import argparse
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

# Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.entry import as_command
from transfer.cli import INTERRUPTED
from transfer.cli import main as command
from transfer.errors import UserError, unknown_name
from transfer.evolution.folder import LEDGER_FILE, RUN_FILE, seed_folder
from transfer.evolution.ledger import read_ledger
from transfer.files import content_digest, read_json, replacing
from transfer.namm.checkpoint import read_namm

#: Name -> arguments of `transfer evolve`, beside those given to all rows.
ROWS: dict[str, str] = {
    **{
        features: f"--features {features}"
        for features in (
            "log",
            "spec",
            "relative",
            "two_decays",
            "log+relative",
            "log+ages",
            "log+place",
            "log+sink",
            "log+norms",
            "universal",
            "universal_norms",
        )
    },
    "mlp": "--scorer mlp",
    "linear": "--scorer linear",
    "universal, mlp": "--features universal --scorer mlp",
    "universal, linear": "--features universal --scorer linear",
    "hidden 8": "--hidden 8",
    "hidden 8, full": "--hidden 8 --search full",
    "isotropic": "--search isotropic",
    "random": "--search random",
    "population 8": "--population 8",
    "population 32": "--population 32",
    "population 64": "--population 64",
    "shared by layer": "--share layer",
    "shared or not": "--share head layer",
}
MEASURES = (
    "language --model llama-recall --task recall --budget 0.25",
    "language --model gpt2-recall --task recall --budget 0.25",
    "control --model decision-transformer-tmaze-none --budget 24 --memory full --episodes 50",
)


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        out: folder of everything.
        rows: name -> arguments of `transfer evolve`.
        measures: `transfer eval` with which arguments, after a metric and a colon if it is not the
            first that the results name.
        seeds: of the searches.
        generations: of each, or with `seconds` how many at a time.
        seconds: of computing that each seed gets at least; None: one time `generations`.
    """

    out: Path
    rows: Mapping[str, str]
    measures: Sequence[str]
    seeds: Sequence[int]
    generations: int
    seconds: float | None


@dataclass
class Found:
    """What came of a row: a number a seed, for each measure.

    Attributes:
        parameters: of the NAMM.
        generations: made, a number a seed.
        seconds: of computing, likewise.
        values: of each measure, likewise.
    """

    parameters: int = 0
    generations: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    values: list[list[float]] = field(default_factory=list)


def main(words: Sequence[str]) -> None:
    """Run what is missing, row by row, and print the table after each."""
    plan = planned(words)
    found: dict[str, Found] = {}
    for name in plan.rows:
        found[name] = row(plan, name)
        table = "\n".join(table_of(plan, found))
        with replacing(plan.out / "ablations.md") as partial:
            partial.write_text(table + "\n")
        print(table, flush=True)


def planned(words: Sequence[str]) -> Plan:
    """What the arguments say.

    Raises:
        UserError: a row has no such name, or is no `name=arguments`; or a number is out of range.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of everything")
    parser.add_argument("--generations", type=int, required=True, help="of each search")
    parser.add_argument("--seconds", type=float, help="go on by as many until so long is computed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", help="some of: " + "; ".join(ROWS))
    parser.add_argument("--row", action="append", default=[], help="a row more: NAME=ARGUMENTS")
    parser.add_argument("--evolve", default="", help="arguments of transfer evolve for all rows")
    parser.add_argument("--measure", action="append", help="instead of the built-in measures")
    told = parser.parse_args(words)
    _check_numbers(told)
    rows = dict(ROWS if told.rows is None and not told.row else {})
    for name in told.rows or ():
        if name not in ROWS:
            raise unknown_name("row", name, ROWS)
        rows[name] = ROWS[name]
    for text in told.row:
        name, equals, arguments = text.partition("=")
        if not equals:
            raise UserError(f"--row {text!r} has no =; write a name, = and arguments of evolve")
        rows[name] = arguments
    rows = {name: f"{told.evolve} {arguments}" for name, arguments in rows.items()}
    measures = told.measure or MEASURES
    return Plan(told.out, rows, measures, told.seeds, told.generations, told.seconds)


def _check_numbers(told: argparse.Namespace) -> None:
    if told.generations < 1:
        raise UserError(f"--generations is {told.generations}; use 1 or more")
    if told.seconds is not None and not 0 < told.seconds < math.inf:
        raise UserError(f"--seconds is {told.seconds:g}; use a number above 0")
    if len(set(told.seeds)) < len(told.seeds):
        raise UserError(f"--seeds {shlex.join(map(str, told.seeds))}: give different numbers")


def row(plan: Plan, name: str) -> Found:
    """All seeds of a row, evolved and measured as far as they are not."""
    found = Found(values=[[] for _ in plan.measures])
    for seed in plan.seeds:
        # Other arguments are another run.
        run = plan.out / f"{content_digest(plan.rows[name])[:12]}-{seed}"
        generations, seconds = evolved(plan, plan.rows[name], run, seed)
        found.parameters = read_namm(run / "namm")[0].size
        found.generations.append(generations)
        found.seconds.append(seconds)
        for values, measure in zip(found.values, plan.measures):
            values.append(measured(run, measure, generations))
    return found


def evolved(plan: Plan, arguments: str, run: Path, seed: int) -> tuple[int, float]:
    """Evolve with one seed; how many generations it made, and in how many seconds.

    Raises:
        UserError: evolution failed; or the run has made more already, whose NAMM is another.
    """
    made = 0
    while True:
        made += plan.generations
        if ended(run) < made:
            given = ("--out", str(run), "--seeds", str(seed), "--generations", str(made))
            transfer("evolve", *shlex.split(arguments), *given, "--resume")
        records = read_ledger(seed_folder(run, seed) / LEDGER_FILE)
        spent = sum(record["seconds"]["total"] for record in records[:made])
        if plan.seconds is None or spent >= plan.seconds:
            if (most := ended(run)) > made:
                raise UserError(
                    f"{run} has made {most} generations, and here {made} are enough; ask for as "
                    "much as it was, or choose another --out"
                )
            return made, spent


def ended(run: Path) -> int:
    """After how many generations a run has ended; 0 if it has not."""
    told = read_json(run / RUN_FILE) if (run / RUN_FILE).is_file() else {}
    return told["config"]["generations"] if "results" in told else 0


def measured(run: Path, measure: str, generations: int) -> float:
    """What the run's NAMM reaches: the mean over all rows of the results that are its."""
    metric, colon, arguments = measure.rpartition(":") if ": " in measure else ("", "", measure)
    out = run / f"{content_digest(arguments)[:12]}-{generations}"
    kind, *rest = shlex.split(arguments)
    namm = ("--policy", f"namm:{run / 'namm'}", "--out", str(out))
    if not (out / "results.json").is_file() or read_json(out / "results.json")["interrupted"]:
        transfer("eval", kind, *rest, *namm)
    results: dict[str, Any] = read_json(out / "results.json")
    metric = metric if colon else results["metrics"][0]
    found = [
        each["mean"]
        for each in results["summary"]
        if (each["metric"], each["group_by"]) == (metric, "all")
        and each["policy"].startswith("namm")
    ]
    if not found:
        raise UserError(f"{out} has no {metric}; it has {', '.join(results['metrics'])}")
    return mean(found)


def transfer(*words: str) -> None:
    """Run the command `transfer`.

    Raises:
        UserError: it failed; it said why.
        KeyboardInterrupt: it was stopped.
    """
    code = command(words)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"transfer {shlex.join(words)} failed; mend it and repeat the command")


def table_of(plan: Plan, found: Mapping[str, Found]) -> list[str]:
    """Lines of Markdown: mean over seeds +- their standard deviation."""
    heads = ["", "parameters", "generations", "seconds", *(f"`{each}`" for each in plan.measures)]
    lines = [heads, ["---"] * len(heads)]
    for name, each in found.items():
        numbers = [each.generations, each.seconds]
        words = [f"{mean(values):.0f}" for values in numbers]
        lines.append([name, f"{each.parameters:,}", *words, *map(spread, each.values)])
    return ["| " + " | ".join(line) + " |" for line in lines]


def spread(values: Sequence[float]) -> str:
    """0.913 ± 0.021, of more than one."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    as_command(main)

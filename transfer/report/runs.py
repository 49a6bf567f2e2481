"""Runs as folders hold them: evaluations, suites with their sections, and evolutions."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from transfer.errors import UserError
from transfer.evaluation.store import (
    BLOCKS_FILE,
    RESULTS_FILE,
    ROWS_FILE,
    SETTINGS_FILE,
    SUITE,
    Results,
    Row,
    read_results,
)
from transfer.evolution.folder import LEDGER_FILE, RUN_FILE
from transfer.evolution.ledger import Entry, read_ledger
from transfer.files import read_sealed
from transfer.report.lines import contender, line_names, measure, title

_OF_RESULTS = (RESULTS_FILE, SETTINGS_FILE, ROWS_FILE, BLOCKS_FILE)
_LEDGERS = f"seed-*/{LEDGER_FILE}"


@dataclass(frozen=True)
class Evaluated:
    """An evaluation.

    Attributes:
        name: that tells it from the other runs of a page.
        results: its summary and rows.
        sections: of a suite, whose rows lie there.
    """

    name: str
    results: Results
    sections: Sequence["Evaluated"] = ()

    @property
    def kind(self) -> str:
        """Of the evaluation."""
        return self.results.kind

    def measure(self, metric: str) -> str:
        """What is said of an axis with this metric."""
        return measure(self.results, metric)

    def told(self) -> Row:
        """How it came about."""
        found = self.results
        return {
            "name": self.name,
            "kind": found.kind,
            "commands": [found.command, *(each.results.command for each in self.sections)],
            "versions": dict(found.versions),
            "computed": dict(found.computed),
            "notes": list(found.notes),
            "metric": found.metrics[0],
            "interrupted": found.interrupted,
            "failed": [reason for each in (self, *self.sections) for reason in each.failures],
        }

    @cached_property
    def named(self) -> Mapping[str, str]:
        """See `transfer.report.lines.line_names`."""
        return line_names(self.results)

    @property
    def failures(self) -> list[str]:
        """Which items failed and why."""
        return self.results.failures

    def returns(self) -> Mapping[tuple[str, str], list[Row]]:
        """Of each model and task what episodes returned up to each step that rows tell.

        The mean over episodes and what nine in ten are within; those that have ended stay at what
        they returned.
        """
        found: dict[tuple[str, str], list[Row]] = {}
        for each in (self, *self.sections):
            for (model, task, who), rows in each._told_returns.items():
                about = {"contender": who, "line": each.named[rows[0]["policy"]]}
                found.setdefault((model, task), []).extend(about | one for one in _over_steps(rows))
        return found

    @cached_property
    def _told_returns(self) -> Mapping[tuple[str, str, str], list[Row]]:
        found: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.results.rows:
            if row.get("returns") and row.get("failure") is None:
                about = (PurePath(row["model"]).name, title(row, self.results.keys))
                found.setdefault((*about, contender(row)), []).append(row)
        return found


def _over_steps(rows: Sequence[Row]) -> Iterator[Row]:
    steps = max(len(row["returns"]) for row in rows)
    curves = [row["returns"] + row["returns"][-1:] * (steps - len(row["returns"])) for row in rows]
    for place, column in enumerate(np.array(curves).T):
        low, high = np.quantile(column, (0.05, 0.95)).tolist()
        step = place * rows[0]["returns_every"]
        yield {"step": step, "mean": float(column.mean()), "low": low, "high": high}


@dataclass(frozen=True)
class Evolved:
    """An evolution, finished or not.

    Attributes:
        name: that tells it from the other runs of a page.
        ledgers: of each search.
        run: what `run.json` says; empty where there is none.
    """

    name: str
    ledgers: Mapping[str, Sequence[Entry]] = field(repr=False)
    run: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def told(self) -> Row:
        """How it came about."""
        commands = [*self.run.get("earlier_commands", ()), self.run.get("command", "")]
        return {
            "name": self.name,
            "kind": "evolution",
            "commands": [command for command in commands if command],
            "versions": dict(self.run.get("versions", {})),
            "computed": {},
            "notes": [],
        }

    def values(self, what: str) -> list[Row]:
        """A number of each generation, the mean over its candidates, and of each validation."""
        found = []
        for seed, entries in self.ledgers.items():
            for entry in entries:
                about = {"seed": seed, "generation": entry["generation"]}
                known = [value for value in entry[what] if value is not None]
                if known:
                    mean = float(np.mean(known))
                    found.append({**about, "of": "each generation", "value": mean})
                held_out = (entry["validation"] or {}).get("mean", {}).get(what)
                if held_out is not None:
                    found.append({**about, "of": "held out", "value": held_out})
        return found


Run = Evaluated | Evolved


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs of folders, or of the folders in them.

    Raises:
        UserError: there is none, or one that cannot be read.
    """
    paths = list(dict.fromkeys(path for folder in folders for path in _found(folder)))
    return [replace(_read(path), name=name) for path, name in zip(paths, _names(paths))]


def _found(folder: Path) -> list[Path]:
    """The folder, or those in it that hold runs; sections of a suite are its own."""
    if any((folder / name).is_file() for name in _OF_RESULTS) or any(folder.glob(_LEDGERS)):
        return [folder]
    ended = {path.parent for path in folder.rglob(RESULTS_FILE)}
    ended |= {path.parents[1] for path in folder.rglob(_LEDGERS)}
    for path in folder.rglob(ROWS_FILE):
        if path.parent not in ended:
            print(f"left out {path.parent}: that run was stopped", file=sys.stderr)
    if not ended:
        raise UserError(
            f"{folder} holds no results; name what `transfer eval --out` or `transfer evolve "
            "--out` wrote, or a folder of such"
        )
    return sorted(path for path in ended if not ended.intersection(path.parents))


def _read(folder: Path) -> Run:
    ledgers = sorted(folder.glob(_LEDGERS))
    if ledgers and not (folder / RESULTS_FILE).is_file():
        found = {path.parent.name: read_ledger(path) for path in ledgers}
        file = folder / RUN_FILE
        told = read_sealed(file, "put it back") if file.is_file() else {}
        return Evolved(folder.name, found, told)
    results = read_results(folder)
    inside = sorted(folder.rglob(RESULTS_FILE)) if results.kind == SUITE else []
    sections = [
        Evaluated(str(path.parent.relative_to(folder)), read_results(path.parent))
        for path in inside
        if path.parent != folder
    ]
    return Evaluated(folder.name, results, sections)


def _names(paths: Sequence[Path]) -> list[str]:
    """As few of the last parts of paths as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts), default=1)):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            break
    else:
        names = [str(path) for path in paths]
    return names

"""From the rows of any benchmark to its summary: one entry a task, contender and metric.

Rows are paired by their items, never by their place. An item that failed is counted and in no mean;
one without a score (None) has costs alone.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any
from zlib import crc32

from transfer.cache.policy import PROTECTING, SHARING
from transfer.evaluation.benchmark import Benchmark
from transfer.evaluation.options import Budget
from transfer.evaluation.statistics import (
    Change,
    Interval,
    bootstrap,
    interquartile_mean,
    paired_difference,
    std,
)
from transfer.evaluation.store import HELD_FIELDS, Row

_NUMBER = re.compile(r"\d+(\.\d+)?")
ALL, FAMILY = "all", "family"
#: Metric of a family: the mean over its tasks of a score as a share of the full cache's.
NORMALISED = "normalised"
_COSTS = (
    "kept", "kept_tokens", "tokens", *HELD_FIELDS, "cache_bytes", "peak_bytes", "full_bytes",
)  # fmt: skip
_SUMS = ("policy_seconds", "seconds")

Key = tuple[str, Budget]


def summarise(rows: Sequence[Row], benchmark: Benchmark) -> list[dict[str, Any]]:
    """The entries of each task and the values of its keys, then those of groups within it.

    A contender all of whose items failed has no entry.
    """
    entries: list[dict[str, Any]] = []
    for cell in _parted(rows, ("task", *benchmark.keys)):
        entries += _Cell(cell, benchmark, {"group_by": ALL, "group": ""}, benchmark.average_by)
        for field in benchmark.groups:
            for group in _ordered(cell, field):
                inside = [row for row in cell if group in _groups_of(row, field)]
                entries += _Cell(inside, benchmark, {"group_by": field, "group": group}, None)
    return [*entries, *_of_families(rows, benchmark)]


def _of_families(rows: Sequence[Row], benchmark: Benchmark) -> Iterator[dict[str, Any]]:
    """The means over the tasks of a family, and those of their shares of the full cache's."""
    if benchmark.families is None:
        return
    for cell in _parted(rows, (benchmark.families, *benchmark.keys)):
        family = cell[0][benchmark.families]
        if not family or len({row["task"] for row in cell}) == 1:
            continue
        about = {"task": family, "group_by": FAMILY, "group": family}
        for entry in _Cell(cell, benchmark, about, "task"):
            yield entry
            if entry["metric"] == benchmark.metrics[0]:
                yield {**entry, **_normalised(cell, entry)}


def _normalised(rows: Sequence[Row], entry: Row) -> Row:
    """A contender's score as a share of the full cache's, the mean over the tasks it can do."""
    metric, changes = entry["metric"], []
    for own in _parted(rows, ("task",)):
        ours, full = (
            {row["item"]: row for row in own if _is_by(row, *who) and row[metric] is not None}
            for who in ((entry["policy"], entry["budget"]), ("full", None))
        )
        both = [item for item in ours if item in full]
        values, base = ([side[item][metric] for item in both] for side in (ours, full))
        if both and fmean(base) > 0:
            clusters = [ours[item]["cluster"] for item in both]
            seed = crc32(f"{own[0]['task']} {entry['policy']}".encode())
            changes.append(Change.of(values, base, clusters, seed))
    shown = named("mean", "", Change.average(changes).interval if changes else None)
    shares = {name: None if part is None else 1 + part for name, part in shown.items()}
    nothing = dict.fromkeys(name for name in entry if name.startswith("delta_"))
    about = {"metric": NORMALISED, "n": len(changes), "std": None, "iqm": None}
    return {**about, **nothing, **shares}


def _is_by(row: Row, policy: str, budget: Budget) -> bool:
    return (row["policy"], row["budget"], row["failure"]) == (policy, budget, None)


def _parted(rows: Sequence[Row], fields: Sequence[str]) -> list[list[Row]]:
    parts: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        parts.setdefault(tuple(row.get(field) for field in fields), []).append(row)
    return list(parts.values())


def _ordered(rows: Sequence[Row], field: str) -> list[str]:
    """The groups as they first occur, numbers by size; none if all are empty."""
    names = dict.fromkeys(name for row in rows for name in _groups_of(row, field))
    ordered = sorted(names, key=lambda name: float(name) if _NUMBER.fullmatch(name) else -1.0)
    return [] if ordered == [""] else ordered


def _groups_of(row: Row, field: str) -> Sequence[str]:
    """The group that a row is in; those, where its field is a list of them."""
    if field not in row:
        return ()
    return row[field] if isinstance(row[field], list) else (row[field],)


@dataclass
class _Cell:
    """Rows whose contenders are compared with each other.

    Attributes:
        rows: of all of them, failed ones too.
        benchmark: says how they are averaged.
        about: fields that all entries have.
        average_by: field over whose values the mean is of means.
    """

    rows: Sequence[Row]
    benchmark: Benchmark
    about: Row
    average_by: str | None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        whole: dict[Key, list[Row]] = {}
        failed: dict[Key, list[Row]] = {}
        for row in self.rows:
            side = whole if row["failure"] is None else failed
            side.setdefault((row["policy"], row["budget"]), []).append(row)
        for key, rows in whole.items():
            common = self._common(rows, failed.get(key, ()))
            for metric in self.benchmark.metrics:
                yield {**self._scored(rows, whole, metric), **common}

    def _scored(
        self, rows: Sequence[Row], whole: Mapping[Key, Sequence[Row]], metric: str
    ) -> dict[str, Any]:
        first, known = rows[0], [row for row in rows if row[metric] is not None]
        values = [row[metric] for row in known]
        score = (
            bootstrap(values, _clusters(known), self._groups(known), weights=self._weights(known))
            if known
            else None
        )
        entry = {
            **{name: first[name] for name in ("model", "task", "policy", "budget")},
            "metric": metric,
            "n": len(known),
            **named("mean", "", score),
            "std": std(values) if known else None,
            "iqm": interquartile_mean(values) if known else None,
        }
        for base in self.benchmark.bases:
            theirs = whole.get((base, None), ())
            difference = self._difference(known, theirs, metric)
            bound = "delta_" if base == "full" else f"delta_{base}_"
            entry |= named(f"delta_vs_{base}", bound, difference)
        return entry

    def _difference(self, rows: Sequence[Row], base: Sequence[Row], metric: str) -> Interval | None:
        """Mean difference over the items that both have; None without a common one."""
        theirs = {_item(row): row[metric] for row in base if row[metric] is not None}
        both = [row for row in rows if _item(row) in theirs]
        if not both:
            return None
        values, others = _of(both, metric), [theirs[_item(row)] for row in both]
        clusters, weights = _clusters(both), self._weights(both)
        return paired_difference(values, others, clusters, self._groups(both), weights=weights)

    def _groups(self, rows: Sequence[Row]) -> list[Any] | None:
        return _of(rows, self.average_by) if self.average_by else None

    def _weights(self, rows: Sequence[Row]) -> list[Any] | None:
        weigh_by = self.benchmark.weigh_by
        return _of(rows, weigh_by) if weigh_by else None

    def _common(self, rows: Sequence[Row], failed: Sequence[Row]) -> dict[str, Any]:
        benchmark, first = self.benchmark, rows[0]
        about = ("update_interval", "eviction", *PROTECTING, *SHARING, "nominal", "pair")
        names = (*benchmark.keys, *about)
        return {
            "failed": len(failed),
            **{name: first[name] for name in names},
            **{name: _mean(rows, name) for name in (*_COSTS, *benchmark.means)},
            **{name: sum(row[name] or 0.0 for row in rows) for name in (*benchmark.sums, *_SUMS)},
            **self.about,
            **benchmark.about([dict(row) for row in rows], [dict(row) for row in failed]),
        }


def named(mean: str, bound: str, interval: Interval | None) -> dict[str, float | None]:
    """An interval as fields of an entry."""
    values = (interval.mean, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((mean, f"{bound}low", f"{bound}high"), values))


def _item(row: Row) -> tuple[str, Any]:
    return row["task"], row["item"]


def _clusters(rows: Sequence[Row]) -> list[tuple[str, Any]]:
    """What is drawn together; seeds and records of two tasks may have one name."""
    return [(row["task"], row["cluster"]) for row in rows]


def _of(rows: Sequence[Row], name: str) -> list[Any]:
    return [row[name] for row in rows]


def _mean(rows: Sequence[Row], name: str) -> float | None:
    """Mean over the rows that say it; None where none does."""
    said = [row[name] for row in rows if row.get(name) is not None]
    return fmean(said) if said else None

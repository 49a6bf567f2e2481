"""From the rows of a suite's sections to scores of tasks, and to average changes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any
from zlib import crc32

from transfer.evaluation.results import Results, Row
from transfer.evaluation.statistics import Change, Interval, bootstrap, paired_difference

#: What a model is without pruning.
BASES = {"language": "full", "video": "full", "control": "window"}
ALL = "all"
CHANGE = "change"
#: Of a row: what names its policy, its score with what it is multiplied by, its pair, its cluster.
_FIELDS = {
    "language": ("policy", "correct", 100.0, "seed", "seed"),
    "video": ("policy", "correct_likelihood", 100.0, "question", "cluster"),
    "control": ("protocol", "score", 1.0, "seed", "seed"),
}
#: Metrics of summaries, one of each modality.
_SCORED = ("correct", "likelihood", "d4rl_score")
_PEAKS = {"language": "peak_bytes", "video": "peak_bytes", "control": "cache_bytes"}


@dataclass
class Task:
    """What all policies scored on one task, pair by pair.

    Attributes:
        name: such as `control/hopper-medium` or `language/gpt2-recall/passkey`.
        modality: language, video or control.
        rows: of each policy, by its pair.
        seconds: of each policy.
    """

    name: str
    modality: str
    rows: dict[str, dict[object, Row]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Take a row of the task."""
        policy, _, _, pair, _ = _FIELDS[self.modality]
        self.rows.setdefault(row[policy], {})[row[pair]] = row

    def pairs(self, policy: str, base: str) -> tuple[list[float], list[float], list[object]]:
        """Scores of both where both have one, and the clusters they are drawn by."""
        _, metric, scale, _, cluster = _FIELDS[self.modality]
        ours, theirs = self.rows[policy], self.rows.get(base, {})
        both = [pair for pair in ours if pair in theirs]
        return (
            [scale * float(ours[pair][metric]) for pair in both],
            [scale * float(theirs[pair][metric]) for pair in both],
            [ours[pair][cluster] for pair in both],
        )

    def change(self, policy: str) -> Change | None:
        """Against the base, as a share of it; None where there is nothing to compare."""
        values, base, clusters = self.pairs(policy, BASES[self.modality])
        if not values or fmean(base) <= 0:
            return None
        return Change.of(values, base, clusters, seed=crc32(f"{self.name} {policy}".encode()))


def tasks_of(modality: str, section: str, results: Results) -> list[Task]:
    """The tasks of a section: of language one for each of its tasks, else one."""
    found: dict[str, Task] = {}

    def task(entry: Row) -> Task:
        name = f"{section}/{entry['task']}" if modality == "language" else section
        return found.setdefault(name, Task(name, modality))

    for row in results.rows:
        if "failed" not in row and not row.get("failure"):
            task(row).add(row)
    for entry in results.summary:
        if entry["metric"] in _SCORED and not entry.get("group"):
            task(entry).seconds[entry["policy"]] = entry["seconds"]
    return list(found.values())


def summarise(tasks: Sequence[Task]) -> list[Row]:
    """One entry for each task and policy, then the average changes of each policy."""
    entries = [_entry(task, policy) for task in tasks for policy in task.rows]
    return [*entries, *_averages(tasks)]


def _entry(task: Task, policy: str) -> Row:
    values, _, clusters = task.pairs(policy, policy)
    score, rows = bootstrap(values, clusters), list(task.rows[policy].values())
    change = task.change(policy)
    return {
        "model": rows[0]["model"],
        "task": task.name,
        "policy": policy,
        "budget": rows[0]["budget"],
        "metric": "d4rl_score" if task.modality == "control" else "percent_right",
        "n": len(values),
        **_named("mean", "", score),
        **_named("delta_vs_full", "delta_", _difference(task, policy, "full")),
        "kept": _mean(rows, "kept_tokens"),
        "cache_bytes": _mean(rows, _PEAKS[task.modality]),
        "full_bytes": _mean(rows, "full_bytes"),
        "seconds": task.seconds[policy],
        "modality": task.modality,
        **_named("delta_vs_base", "delta_base_", _difference(task, policy, BASES[task.modality])),
        **_named("change", "change_", change and change.interval),
    }


def _averages(tasks: Sequence[Task]) -> Iterator[Row]:
    """Of each modality over its tasks; of all over the modalities."""
    modalities = list(dict.fromkeys(task.modality for task in tasks))
    for policy in dict.fromkeys(policy for task in tasks for policy in task.rows):
        found: dict[str, Change] = {}
        for modality in modalities:
            own = [task for task in tasks if task.modality == modality]
            changes = [task.change(policy) for task in own if policy in task.rows]
            known = [change for change in changes if change is not None]
            if len(known) == len(own):
                found[modality] = Change.average(known)
        if len(modalities) > 1 and len(found) == len(modalities):
            found[ALL] = Change.average(list(found.values()))
        for modality, change in found.items():
            count = sum(task.modality == modality or modality == ALL for task in tasks)
            yield _average(policy, modality, change.interval, count)


def _average(policy: str, modality: str, change: Interval, count: int) -> Row:
    unknown = ("budget", "delta_vs_full", "delta_low", "delta_high", "kept", "cache_bytes")
    return {
        **dict.fromkeys((*unknown, "full_bytes", "seconds")),
        "model": ALL,
        "task": f"average {modality}",
        "policy": policy,
        "metric": CHANGE,
        "n": count,
        **_named("mean", "", change),
        "modality": modality,
    }


def _difference(task: Task, policy: str, base: str) -> Interval | None:
    values, theirs, clusters = task.pairs(policy, base)
    return paired_difference(values, theirs, clusters) if values else None


def _named(name: str, bound: str, interval: Interval | None) -> Row:
    values = (interval.mean, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((name, f"{bound}low", f"{bound}high"), values))


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Mean over the rows; None for the stock window, which has no cache."""
    return None if rows[0][name] is None else fmean(row[name] for row in rows)

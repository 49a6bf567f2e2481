"""From the results of a suite's sections to scores of tasks, and to average changes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any
from zlib import crc32

from transfer.evaluation.statistics import Change
from transfer.evaluation.store import HELD_FIELDS, SUMMARY_FIELDS, Results, Row
from transfer.evaluation.summary import ALL, named

#: What a model is without pruning.
BASES = {
    "language": "full",
    "real-language": "full",
    "video": "full",
    "control": "window",
    "memory": "full",
}
CHANGE, SCORE = "change", "score"
#: Metrics that are shares, shown in per cent.
_PERCENT = ("correct", "score", "correct_likelihood", "success")


@dataclass(frozen=True)
class Task:
    """What all policies scored on one task.

    Attributes:
        name: such as `control/hopper-medium` or `language/gpt2-recall/passkey`.
        modality: language, real-language, video, control or memory.
        metric: what counts, a field of the rows.
        entries: of the section's summary, one for each policy.
        rows: of each policy, those with a score, by their item.
    """

    name: str
    modality: str
    metric: str
    entries: Sequence[Row]
    rows: Mapping[str, Mapping[Any, Row]]

    def change(self, policy: str) -> Change | None:
        """Against the base, as a share of it; None where there is nothing to compare."""
        ours, theirs = self.rows.get(policy, {}), self.rows.get(BASES[self.modality], {})
        both = [item for item in ours if item in theirs]
        values, base = ([side[item][self.metric] for item in both] for side in (ours, theirs))
        if not values or fmean(base) <= 0:
            return None
        clusters = [ours[item]["cluster"] for item in both]
        return Change.of(values, base, clusters, seed=crc32(f"{self.name} {policy}".encode()))


def tasks_of(section: str, results: Results) -> list[Task]:
    """The tasks of a section: of language one for each of its tasks, else one."""
    metric, found = results.metrics[0], []
    entries = [one for one in results.summary if one["group_by"] == ALL and one["metric"] == metric]
    for asked in dict.fromkeys(entry["task"] for entry in entries):
        rows: dict[str, dict[Any, Row]] = {}
        for row in results.rows:
            if row["task"] == asked and row["failure"] is None and row[metric] is not None:
                rows.setdefault(row["policy"], {})[row["item"]] = row
        name = f"{section}/{asked.split('/')[-1]}" if results.kind == "language" else section
        own = [entry for entry in entries if entry["task"] == asked]
        found.append(Task(name, section.split("/")[0], metric, own, rows))
    return found


def summarise(tasks: Sequence[Task]) -> list[Row]:
    """One entry for each task and policy, then the average changes of each policy."""
    entries = [_entry(task, entry) for task in tasks for entry in task.entries]
    return [*entries, *_averages(tasks)]


def _entry(task: Task, entry: Row) -> Row:
    scale, base = 100.0 if task.metric in _PERCENT else 1.0, BASES[task.modality]
    bound = "delta_" if base == "full" else f"delta_{base}_"
    change = task.change(entry["policy"])
    scaled = {
        name: None if entry[name] is None else scale * entry[name]
        for name in ("mean", "low", "high", "delta_vs_full", "delta_low", "delta_high")
    }
    against = (f"delta_vs_{base}", f"{bound}low", f"{bound}high")
    return {
        **{name: entry[name] for name in SUMMARY_FIELDS},
        # Sections of earlier versions have none.
        **{name: entry.get(name) for name in HELD_FIELDS},
        **scaled,
        "task": task.name,
        "metric": SCORE,
        "scored": task.metric,
        "modality": task.modality,
        **{
            name: None if entry[field] is None else scale * entry[field]
            for name, field in zip(("delta_vs_base", "delta_base_low", "delta_base_high"), against)
        },
        **named("change", "change_", change and change.interval),
    }


def _averages(tasks: Sequence[Task]) -> Iterator[Row]:
    """Of each modality over its tasks; of all over the modalities."""
    modalities = list(dict.fromkeys(task.modality for task in tasks))
    for policy in dict.fromkeys(entry["policy"] for task in tasks for entry in task.entries):
        found: dict[str, Change] = {}
        for modality in modalities:
            changes = [task.change(policy) for task in tasks if task.modality == modality]
            known = [change for change in changes if change is not None]
            if len(known) == len(changes):
                found[modality] = Change.average(known)
        if len(modalities) > 1 and len(found) == len(modalities):
            found[ALL] = Change.average(list(found.values()))
        for modality, change in found.items():
            yield {
                **dict.fromkeys(SUMMARY_FIELDS),
                "model": ALL,
                "task": f"average {modality}",
                "policy": policy,
                "metric": CHANGE,
                "n": sum(modality in (task.modality, ALL) for task in tasks),
                **named("mean", "", change.interval),
                "modality": modality,
            }

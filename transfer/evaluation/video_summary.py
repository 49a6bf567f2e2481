"""From the rows of a video run to its summary.

A question is scored twice: by the option that is most likely right after the prompt, and by what
the generated reply says. A reply that says no option is wrong, and counted; a question that failed
is in no mean, and counted; one whose answer its authors keep to themselves has costs but no score.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Bool

from transfer.evaluation.results import Row
from transfer.evaluation.statistics import ClusterBootstrap, Interval

METRICS = ("likelihood", "reply")
#: Means over the questions of a policy and budget.
MEANS = (
    "kept_tokens", "kept_video_tokens", "kept_text_tokens", "tokens", "video_tokens", "frames",
    "video_bytes", "text_bytes", "cache_bytes", "peak_bytes", "full_bytes",
)  # fmt: skip
SECONDS = ("decode_seconds", "vision_seconds", "prefill_seconds", "answer_seconds")
ALL = "all"

Key = tuple[str, int | float | None]


def summarise(rows: Sequence[Row], aggregation: str, groupings: Sequence[str]) -> list[Row]:
    """One entry for each policy, budget and metric, then the same within each group of questions.

    Args:
        rows: of all questions.
        aggregation: micro: the mean over questions; macro: the mean over categories of theirs.
        groupings: fields of the rows whose values are groups of questions.
    """
    answered = [row for row in rows if "failed" not in row]
    if not answered:
        return []
    scores = _Scores(answered)
    by = "category" if aggregation == "macro" else None
    about = {"group_by": ALL, "group": "", "aggregation": aggregation}
    about |= {"failed": len(rows) - len(answered), **_categories(rows)}
    entries = list(_entries(answered, scores, about, by))
    for field in groupings:
        for group in _groups(answered, field):
            inside = [row for row in answered if row[field] == group]
            failed = sum("failed" in row and row.get(field) == group for row in rows)
            about = {"group_by": field, "group": group, "aggregation": "micro", "failed": failed}
            entries += _entries(inside, scores, {**about, **_categories(inside)}, None)
    return entries


def _categories(rows: Sequence[Row]) -> Row:
    """How many categories there are, and how many of them have a question that counts."""
    scored = {row["category"] for row in rows if "failed" not in row and row["answer"] is not None}
    return {
        "categories": len({row["category"] for row in rows if "category" in row}),
        "scored_categories": len(scored),
    }


def _groups(rows: Sequence[Row], field: str) -> list[str]:
    """The groups in the order in which they first occur, numbers by size; none if all are empty."""
    names = dict.fromkeys(row[field] for row in rows)
    ordered = sorted(names, key=lambda name: int(name) if name.isdecimal() else -1)
    return [] if ordered == [""] else ordered


class _Scores:
    """Which answers of which policies are right, and the draws that all intervals share."""

    def __init__(self, rows: Sequence[Row]) -> None:
        known = [row for row in rows if row["answer"] is not None]
        self._columns = {
            column: number for number, column in enumerate(dict.fromkeys(_key(row) for row in rows))
        }
        self._questions = {
            question: number
            for number, question in enumerate(dict.fromkeys(row["question"] for row in known))
        }
        shape = (len(METRICS), len(self._questions), len(self._columns))
        self._right = np.zeros(shape)
        for row in known:
            at = self._questions[row["question"]], self._columns[_key(row)]
            self._right[:, *at] = [row[f"correct_{metric}"] for metric in METRICS]
        clusters = {row["question"]: row["cluster"] for row in known}
        self._draws = ClusterBootstrap(list(clusters.values())) if clusters else None

    def intervals(
        self, rows: Sequence[Row], by: str | None, metric: str
    ) -> dict[Key, tuple[Interval, Interval]]:
        """Accuracy on the questions of `rows`, and its difference to the full cache.

        Args:
            rows: of the questions to average.
            by: a field; the mean is over its values of the means within them.
            metric: one of `METRICS`.
        """
        groups = self._groups(rows, by)
        if self._draws is None or not groups:
            return {}
        right = self._right[METRICS.index(metric)]
        full = right[:, [self._columns["full", None]]]
        scores = self._draws.intervals(right, groups)
        deltas = self._draws.intervals(right - full, groups)
        return dict(zip(self._columns, zip(scores, deltas)))

    def _groups(self, rows: Sequence[Row], by: str | None) -> list[Bool[np.ndarray, " questions"]]:
        groups: dict[object, Bool[np.ndarray, " questions"]] = {}
        for row in rows:
            number = self._questions.get(row["question"])
            if number is not None:
                name = row[by] if by else None
                empty = np.zeros(len(self._questions), dtype=bool)
                groups.setdefault(name, empty)[number] = True
        return list(groups.values())


def _entries(
    rows: Sequence[Row], scores: _Scores, about: Mapping[str, Any], by: str | None
) -> Iterator[Row]:
    readers: dict[Key, list[Row]] = {}
    for row in rows:
        readers.setdefault(_key(row), []).append(row)
    found = {metric: scores.intervals(rows, by, metric) for metric in METRICS}
    for key, own in readers.items():
        for metric in METRICS:
            score, delta = found[metric].get(key, (None, None))
            yield {
                "model": own[0]["model"],
                "task": own[0]["task"],
                "policy": key[0],
                "budget": key[1],
                "metric": metric,
                "n": sum(row["answer"] is not None for row in own),
                **_named("mean", "", score),
                **_named("delta_vs_full", "delta_", delta),
                **_costs(own),
                "chance": _chance(own, by),
                **about,
            }


def _key(row: Row) -> Key:
    return row["policy"], row["budget"]


def _named(mean: str, bound: str, interval: Interval | None) -> Row:
    values = (interval.mean, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((mean, f"{bound}low", f"{bound}high"), values))


def _chance(rows: Sequence[Row], by: str | None) -> float:
    """Accuracy of guessing, averaged as accuracies are."""
    groups: dict[object, list[float]] = {}
    for row in rows:
        groups.setdefault(row[by] if by else None, []).append(1 / row["options"])
    return fmean(map(fmean, groups.values()))


def _costs(rows: Sequence[Row]) -> Row:
    """Tokens and bytes of a question, and the seconds of all of them."""
    seconds = {name: sum(row[name] for row in rows) for name in SECONDS}
    return {
        "kept": fmean(row["kept_tokens"] / row["tokens"] for row in rows),
        "seconds": sum(seconds.values()),
        **{name: fmean(row[name] for row in rows) for name in MEANS},
        **seconds,
        "policy_seconds": sum(row["policy_seconds"] for row in rows),
        "unparsed": sum(row["said"] is None for row in rows),
        "questions": len(rows),
        "videos": len({row["cluster"] for row in rows}),
    }

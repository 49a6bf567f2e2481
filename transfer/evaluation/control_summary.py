"""From the rows of a control run to its summary."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import fmean

from transfer.evaluation.measure import KINDS
from transfer.evaluation.results import Row
from transfer.evaluation.statistics import (
    Interval,
    bootstrap,
    interquartile_mean,
    mean,
    paired_difference,
    std,
)

METRIC = "d4rl_score"
Seconds = Mapping[tuple[str, float], Mapping[str, float]]


def summarise(rows: Sequence[Row], seconds: Seconds) -> list[Row]:
    """One entry for each protocol and target return, in the order they were played.

    Episodes that failed are counted, and are in no mean; a protocol of which all failed has no
    entry.

    Args:
        rows: one an episode, those of one protocol and target together.
        seconds: simulator, transformer and policy seconds of each protocol and target.
    """
    groups = {
        key: list(group)
        for key, group in groupby(rows, lambda row: (row["protocol"], row["target_return"]))
    }
    whole = {key: [row for row in group if not row["failure"]] for key, group in groups.items()}
    return [
        {**_entry(whole, key, seconds[key]), "failed": len(groups[key]) - len(whole[key])}
        for key in groups
        if whole[key]
    ]


def _entry(
    groups: Mapping[tuple[str, float], Sequence[Row]],
    key: tuple[str, float],
    seconds: Mapping[str, float],
) -> Row:
    rows, (protocol, target) = groups[key], key
    first, returns = rows[0], [row["return"] for row in rows]
    score = bootstrap([row["score"] for row in rows])
    full = _difference(rows, groups.get(("full", target), ()))
    window = _difference(rows, groups.get(("window", target), ()))
    return {
        "model": first["model"],
        "task": first["env"],
        "policy": protocol,
        "budget": first["budget"],
        "metric": METRIC,
        "n": len(rows),
        "mean": score.mean,
        "low": score.low,
        "high": score.high,
        **_named("delta_vs_full", "delta", full),
        "kept": _mean(rows, "kept"),
        "cache_bytes": _mean(rows, "cache_bytes"),
        "full_bytes": _mean(rows, "full_bytes"),
        "seconds": sum(seconds.values()),
        "update_interval": first["update_interval"],
        "eviction": first["eviction"],
        "context": first["context"],
        "target_return": target,
        "return_mean": mean(returns),
        "return_std": std(returns),
        "iqm": interquartile_mean([row["score"] for row in rows]),
        "length": fmean(row["length"] for row in rows),
        **_named("delta_vs_window", "delta_window", window),
        "kept_tokens": _mean(rows, "kept_tokens"),
        **{name: _mean(rows, name) for name in ("kept_age", *KINDS)},
        "cache_bytes_end": _mean(rows, "cache_bytes_end"),
        **seconds,
    }


def _difference(rows: Sequence[Row], base: Sequence[Row]) -> Interval | None:
    """Mean score difference over the seeds that both played; None without a common one."""
    theirs = {row["seed"]: row["score"] for row in base}
    pairs = [(row["score"], theirs[row["seed"]]) for row in rows if row["seed"] in theirs]
    if not pairs:
        return None
    ours, others = zip(*pairs)
    return paired_difference(ours, others)


def _named(name: str, bound: str, interval: Interval | None) -> Row:
    values = (interval.mean, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((name, f"{bound}_low", f"{bound}_high"), values))


def _mean(rows: Sequence[Row], name: str) -> float | None:
    """Mean over episodes; None for a protocol that has no cache."""
    return None if rows[0][name] is None else fmean(row[name] for row in rows)

"""From the rows of a language run to its summary, and to the table on screen."""

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table

from transfer.evaluation.language_run import METRICS, Key
from transfer.evaluation.results import Results, Row
from transfer.evaluation.statistics import bootstrap, mean, paired_difference
from transfer.evaluation.tables import interval_text, new_table, number_text


def summarise(rows: Sequence[Row], seconds: Mapping[Key, float]) -> list[Row]:
    """One entry for each task, length, policy, budget and metric, in the order they were read."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        key = (row["task"], row["length"], row["policy"], row["budget"])
        groups.setdefault(key, []).append(row)
    ordered = sorted(
        groups, key=lambda key: list(dict.fromkeys(k[:2] for k in groups)).index(key[:2])
    )
    return [_entry(groups, key, metric, seconds[key]) for key in ordered for metric in METRICS]


def _entry(groups: Mapping[Key, list[Row]], key: Key, metric: str, seconds: float) -> Row:
    task, length, policy, budget = key
    rows = groups[key]
    full = groups[task, length, "full", None][: len(rows)]
    values = [row[metric] for row in rows]
    score = bootstrap(values)
    delta = paired_difference(values, [row[metric] for row in full])
    return {
        "model": rows[0]["model"],
        "task": task,
        "policy": policy,
        "budget": budget,
        "metric": metric,
        "n": len(rows),
        "mean": score.mean,
        "low": score.low,
        "high": score.high,
        "delta_vs_full": delta.mean,
        "delta_low": delta.low,
        "delta_high": delta.high,
        "kept": mean([row["kept_tokens"] / row["tokens"] for row in rows]),
        "cache_bytes": mean([row["cache_bytes"] for row in rows]),
        "full_bytes": mean([row["full_bytes"] for row in rows]),
        "seconds": seconds,
        "length": length,
        "kept_tokens": mean([row["kept_tokens"] for row in rows]),
        "peak_bytes": mean([row["peak_bytes"] for row in rows]),
    }


def tables(results: Results) -> Group:
    """One table for each task and length: recall and likelihood beside what they cost."""
    cells = dict.fromkeys((entry["task"], entry["length"]) for entry in results.summary)
    return Group(*(_table(results.summary, task, length) for task, length in cells))


def _table(summary: Sequence[Row], task: str, length: int | None) -> Table:
    entries = [e for e in summary if (e["task"], e["length"]) == (task, length)]
    by_metric = {
        metric: [entry for entry in entries if entry["metric"] == metric] for metric in METRICS
    }
    first = entries[0]
    tokens = "" if length is None else f" {length} tokens,"
    title = (
        f"{first['model']} on {task},{tokens} {first['n']} documents; "
        "LL: log-likelihood of a token; 95% intervals"
    )
    columns = ("policy", "tokens", "KB", "recall %", "- full", "LL", "- full")
    rows = (
        (
            right["policy"],
            number_text(right["kept_tokens"], ".1f"),
            number_text(right["cache_bytes"], ".1f", 1e3),
            interval_text(right["mean"], right["low"], right["high"], 100.0),
            interval_text(right["delta_vs_full"], right["delta_low"], right["delta_high"], 100.0),
            f"{likely['mean']:.3f}",
            interval_text(
                likely["delta_vs_full"], likely["delta_low"], likely["delta_high"], digits=3
            ),
        )
        for right, likely in zip(by_metric["correct"], by_metric["log_likelihood"])
    )
    return new_table(title, columns, rows)

"""Lines of a page: what a summary says of a contender, with what figures are drawn by.

Numbers are those of `results.json`, to the last bit; `scale` is what they are shown by.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from transfer.evaluation.curves import without_budget
from transfer.evaluation.store import HELD_FIELDS, SUITE, Results, Row
from transfer.evaluation.suite_summary import CHANGE
from transfer.evaluation.summary import ALL, FAMILY
from transfer.evaluation.tables import budget_kind, budget_text

#: Metrics that are shares; they are shown in per cent. Those of a suite are in per cent already.
SHARES = {
    "answer_probability", "correct", "correct_likelihood", "correct_reply", "normalised", "score",
    "success", CHANGE,
}  # fmt: skip
_COPIED = (
    "metric", "n", "failed", "mean", "low", "high", "kept", "kept_tokens", "cache_bytes",
    "peak_bytes", "full_bytes", "seconds", "update_interval", "share", *HELD_FIELDS,
)  # fmt: skip
_NUMBER = re.compile(r"\d+(\.\d+)?")
_DELTA = "delta_vs_"


def lines(run: int, results: Results) -> list[Row]:
    """A line for each entry; of groups within a task, only those of the metric that counts.

    Args:
        run: number of the run on the page.
        results: of the run.
    """
    named = line_names(results)
    return [
        _line(run, results, entry) | {"line": named[entry["policy"]]}
        for entry in results.summary
        if _is_shown(results, entry)
    ]


def line_names(results: Results) -> dict[str, str]:
    """Of each policy what a curve is of, and a colour: its name without a budget of its own.

    Where two would be one at the same budget, they are two.
    """
    asked = ("model", "task", *results.keys, "metric", "group_by", "group", "budget")
    short = {e["policy"]: without_budget(e["policy"]) for e in (*results.summary, *results.rows)}
    spelled: dict[tuple[Any, ...], set[str]] = {}
    for entry in results.summary:
        place = (short[entry["policy"]], *(entry.get(name) for name in asked))
        spelled.setdefault(place, set()).add(entry["policy"])
    apart = {policy for policies in spelled.values() if len(policies) > 1 for policy in policies}
    return {policy: policy if policy in apart else name for policy, name in short.items()}


def _is_shown(results: Results, entry: Row) -> bool:
    whole = entry.get("group_by", ALL) in (ALL, FAMILY)
    return whole or entry["metric"] == results.metrics[0]


def _line(run: int, results: Results, entry: Row) -> Row:
    kind, settings = budget_kind(entry), settings_of(entry, results.keys)
    # An entry of a suite does not say who evicts; who has a threshold alone is a NAMM.
    kind = "threshold" if kind is None and _is_suites_namm(results, entry) else kind
    found = {
        "run": run,
        "model": PurePath(entry["model"]).name,
        "task": _of_suite(entry["task"]) if results.kind == SUITE else title(entry, results.keys),
        "settings": settings,
        "policy": entry["policy"],
        "contender": contender(entry),
        "budget": entry["budget"],
        "kind": kind,
        "group_by": entry.get("group_by", ALL),
        "group": entry.get("group", ""),
        "scale": scale(results, entry["metric"]),
        **{name: entry[name] for name in _COPIED if entry.get(name) is not None},
        **_differences(entry),
    }
    return {name: value for name, value in found.items() if value is not None}


def _of_suite(task: str) -> str:
    """Without its section, and without the model, which is said beside it."""
    return task.split("/", 1)[-1].split("/")[-1]


def _is_suites_namm(results: Results, entry: Row) -> bool:
    return results.kind == SUITE and entry["policy"].startswith("namm")


def _differences(entry: Row) -> dict[str, float]:
    """Of each base the mean difference and its bounds."""
    found: dict[str, float] = {}
    for name in entry:
        if name.startswith(_DELTA) and entry[name] is not None:
            base = name.removeprefix(_DELTA)
            bound = "delta_" if base == "full" else f"delta_{base}_"
            parts = (name, f"{bound}low", f"{bound}high")
            values = (entry.get(part) for part in parts)
            names = (f"against_{base}", f"against_{base}_low", f"against_{base}_high")
            found |= {k: v for k, v in zip(names, values) if v is not None}
    if entry["metric"] == CHANGE and entry["mean"] is not None:
        bounds = zip(("", "_low", "_high"), ("mean", "low", "high"))
        found |= {f"against_base{end}": entry[name] for end, name in bounds}
    return found


def scale(results: Results, metric: str) -> float:
    """What a metric is multiplied by where it is shown."""
    in_percent = results.kind == SUITE and metric != CHANGE
    return 100.0 if metric in SHARES and not in_percent else 1.0


def measure(results: Results, metric: str) -> str:
    """What is said of an axis with this metric."""
    words = metric.replace("_", " ")
    if results.kind == SUITE:
        return "average change, %" if metric == CHANGE else "score"
    return f"{words}, %" if metric in SHARES else words


def contender(entry: Mapping[str, Any]) -> str:
    """Who, with the budget."""
    return f"{entry['policy']} {budget_text(entry['budget'])}".removesuffix(" -")


def title(about: Mapping[str, Any], keys: Sequence[str]) -> str:
    """What was asked: the task, and what else tells it from others."""
    said = (_said(key, about.get(key)) for key in keys)
    return " · ".join([str(about["task"]), *(word for word in said if word)])


def _said(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if key == "length":
        return f"{value:,} tokens" if isinstance(value, int) else str(value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{key.replace('_', ' ')} {text}"


def settings_of(about: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str | float]:
    """What was asked, in parts: the settings in a task's name too, numbers as numbers."""
    base, _, said = str(about["task"]).partition(":")
    pairs = [part.partition("=") for part in said.split(",") if "=" in part]
    parts = {name: value for name, _, value in pairs}
    named = {"task": base if parts else str(about["task"]), **parts}
    told = {key: about[key] for key in keys if about.get(key) is not None}
    return {name: _number(value) for name, value in {**named, **told}.items()}


def _number(value: Any) -> str | float:
    if isinstance(value, int | float):
        return float(value)
    return float(value) if _NUMBER.fullmatch(str(value)) else str(value)

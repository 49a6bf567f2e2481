"""Curves of control: scores against the budget, and against the settings of the environment."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transfer.evaluation.options import Budget
from transfer.evaluation.store import Results, Row
from transfer.evaluation.summary import ALL
from transfer.evaluation.tables import budget_text


@dataclass(frozen=True)
class Curves:
    """Lines of one table.

    Attributes:
        name: budget or task, what they are against.
        about: its title.
        across: what is across, a word and its values.
        lines: of each policy, mean and bounds at each value.
        flat: of those that are the same everywhere.
    """

    name: str
    about: str
    across: tuple[str, Sequence[str]]
    lines: Mapping[str, Sequence[Row | None]]
    flat: Mapping[str, Row]


def curves(results: Results) -> list[Curves]:
    """Those of a run of control: against the budgets, and against the settings of its environment.

    Where there is one setting alone, or policies have no budgets in common, that one is left
    out. What one is not against is the first of its kind, setting and target return; of
    budgets it is the largest of each policy.
    """
    if results.kind != "control":
        return []
    entries = [
        entry
        for entry in results.summary
        if (entry["group_by"], entry["metric"]) == (ALL, results.metrics[0])
    ]
    entries = [one for one in entries if one["target_return"] == entries[0]["target_return"]]
    tasks = list(dict.fromkeys(entry["task"] for entry in entries))
    named = by_name([one for one in entries if one["task"] in tasks[:1]])
    several = [list(own) for own in named.values() if len(own) > 1]
    most = max(several, key=len, default=[])
    found = []
    if most and all(set(own) <= set(most) for own in several):
        found.append(_by_budget(named, most))
    if len(tasks) > 1:
        found.append(_by_task({task: [e for e in entries if e["task"] == task] for task in tasks}))
    return found


def without_budget(policy: str) -> str:
    """The name of a policy that is spelled with a budget of its own."""
    return re.sub(r"[:,]budget=[^,:]+", "", policy)


def by_name(entries: Sequence[Row]) -> dict[str, dict[Budget, Row]]:
    """Of each policy its entries by budget; one spelled with several of its own is one policy."""
    short = {e["policy"]: without_budget(e["policy"]) for e in entries}
    spelled = [(short[e["policy"]], e["budget"]) for e in entries]
    # Where two would be one at the same budget, they are two.
    apart = {name for name, budget in spelled if spelled.count((name, budget)) > 1}
    found: dict[str, dict[Budget, Row]] = {}
    for entry in entries:
        name = short[entry["policy"]]
        name = entry["policy"] if name in apart else name
        found.setdefault(name, {})[entry["budget"]] = entry
    return found


def _by_budget(named: Mapping[str, Mapping[Budget, Row]], budgets: Sequence[Budget]) -> Curves:
    flat = {
        name if budget is None else f"{name} ({budget_text(budget)})": entry
        for name, own in named.items()
        for budget, entry in own.items()
        if budget not in budgets
    }
    lines = {
        name: [own.get(budget) for budget in budgets]
        for name, own in named.items()
        if set(own) & set(budgets)
    }
    first = next(iter(next(iter(named.values())).values()))
    about = f"{first['model']} in {first['task']}, n {first['n']}"
    across = "budget of a head", list(map(budget_text, budgets))
    return Curves("budget", about, across, lines, flat)


def _by_task(entries: Mapping[str, Sequence[Row]]) -> Curves:
    largest = {
        task: {name: own[max(own, key=lambda b: b or 0)] for name, own in by_name(rows).items()}
        for task, rows in entries.items()
    }
    first = next(iter(next(iter(largest.values())).values()))
    policies = dict.fromkeys(name for own in largest.values() for name in own)
    lines = {name: [own.get(name) for own in largest.values()] for name in policies}
    budgets = {e["budget"] for own in largest.values() for e in own.values()} - {None}
    held = f", {budget_text(budgets.pop())} a head" if len(budgets) == 1 else ""
    about = f"{first['model']} in {first['task'].partition(':')[0]}{held}, n {first['n']}"
    return Curves("task", about, _differing(list(entries)), lines, {})


def _differing(titles: Sequence[str]) -> tuple[str, list[str]]:
    """The setting in which titles differ, and its values; of several, all settings."""
    said = [title.partition(":")[2] for title in titles]
    settings = [_parted(one) for one in said]
    names = dict.fromkeys(name for one in settings for name in one)
    apart = [name for name in names if len({one.get(name) for one in settings}) > 1]
    if len(apart) == 1:
        return apart[0], [one.get(apart[0]) or "default" for one in settings]
    return "settings", [one or "default" for one in said]


def _parted(said: str) -> dict[str, str]:
    parts = [part.partition("=") for part in said.split(",")]
    return {name: value for name, _, value in parts}

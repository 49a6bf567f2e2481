"""Pictures of control: scores against the budget, and against the settings of the environment."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.evaluation.store import Results, Row
from transfer.evaluation.summary import ALL
from transfer.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # pyright: ignore[reportMissingImports]
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

#: Who has no budget is a line across; who may be looked for is drawn thick.
_FLAT, _THICK = {"full": "--", "window": ":"}, 2.5
_MARKERS = "osv^<>DPX*"


@dataclass(frozen=True)
class Curves:
    """Lines of one picture.

    Attributes:
        name: of its file.
        about: its title.
        across: what is on the x axis, a word and its values.
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

    Where there is one budget alone, or one setting, that picture is left out. What it is not
    against is the first of its kind: setting and target return; of budgets it is the largest.
    """
    if results.kind != "control":
        return []
    entries = [
        entry
        for entry in results.summary
        if (entry["group_by"], entry["metric"]) == (ALL, results.metrics[0])
    ]
    if not entries:
        return []
    entries = [one for one in entries if one["target_return"] == entries[0]["target_return"]]
    tasks = list(dict.fromkeys(entry["task"] for entry in entries))
    budgets = sorted({entry["budget"] for entry in entries if entry["budget"] is not None})
    found = []
    if len(budgets) > 1:
        found.append(_by_budget([one for one in entries if one["task"] == tasks[0]], budgets))
    if len(tasks) > 1:
        most = budgets[-1:]
        found.append(_by_task([e for e in entries if e["budget"] in (None, *most)], tasks, most))
    return found


def _by_budget(entries: Sequence[Row], budgets: Sequence[int | float]) -> Curves:
    lines = _lines("budget", budgets, [one for one in entries if one["budget"] is not None])
    flat = {one["policy"]: one for one in entries if one["budget"] is None}
    first = entries[0]
    about = f"{first['model']} in {first['task']}, n {first['n']}"
    return Curves("budget", about, ("tokens of a head", list(map(str, budgets))), lines, flat)


def _by_task(
    entries: Sequence[Row], tasks: Sequence[str], budgets: Sequence[int | float]
) -> Curves:
    first, [name, *_] = entries[0], tasks[0].split(":")
    held = "".join(f", {budget} tokens a head" for budget in budgets)
    about = f"{first['model']} in {name}{held}, n {first['n']}"
    across = _setting(tasks[-1]), [task.rpartition("=")[2] for task in tasks]
    return Curves("task", about, across, _lines("task", tasks, entries), {})


def _lines(
    field: str, values: Sequence[int | float | str], entries: Sequence[Row]
) -> dict[str, list[Row | None]]:
    """Of each policy, the entry at each value of a field."""
    at = {(_policy(entry), entry[field]): entry for entry in entries}
    policies = dict.fromkeys(map(_policy, entries))
    return {policy: [at.get((policy, value)) for value in values] for policy in policies}


def _policy(entry: Row) -> str:
    """Its name without a budget of its own, so that it is one line for several."""
    return re.sub(r"[:,]budget=[^,]+", "", entry["policy"])


def _setting(title: str) -> str:
    """The name of the last setting, `length` of `tmaze:length=200`."""
    return title.rpartition(":")[2].rpartition(",")[2].partition("=")[0]


def draw_curves(found: Curves, metric: str) -> "Figure":
    """Draw lines with their 95% intervals.

    Args:
        found: what.
        metric: whose scores they are.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure = new_figure(8, 5)
    axes = figure.subplots()
    for number, (policy, entries) in enumerate(found.lines.items()):
        # Colours and markers begin again after ten, then broken.
        looks = {"marker": _MARKERS[number % len(_MARKERS)], "linestyle": "-"}
        if number >= len(_MARKERS):
            looks["linestyle"] = "--"
        _line(axes, policy, entries, looks)
    for policy, entry in found.flat.items():
        axes.axhline(entry["mean"], color="black", linestyle=_FLAT.get(policy, "-."), label=policy)
    word, values = found.across
    axes.set_xticks(range(len(values)), values)
    axes.set_xlabel(word)
    axes.set_ylabel(metric)
    axes.set_title(found.about, size="medium")
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def _line(
    axes: "Axes", policy: str, entries: Sequence[Row | None], looks: Mapping[str, str]
) -> None:
    there = [(place, entry) for place, entry in enumerate(entries) if entry is not None]
    places, means = [place for place, _ in there], [entry["mean"] for _, entry in there]
    # Of one episode there are no bounds.
    below, above = ([_distance(entry, bound) for _, entry in there] for bound in ("low", "high"))
    width = _THICK if policy.startswith("namm") else 1.0
    axes.errorbar(places, means, [below, above], linewidth=width, capsize=2, label=policy, **looks)


def _distance(entry: Row, bound: str) -> float:
    """From the mean to a bound; 0 where there is none."""
    return 0.0 if entry[bound] is None else abs(entry[bound] - entry["mean"])

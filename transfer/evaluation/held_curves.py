"""The picture of scores against what was held: on average, at the peak, and in bytes.

Policies of one budget hold different amounts, and budgets of different kinds cannot be compared at
all; here whoever is above the others at the same place is better at the same memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.evaluation.curves import by_name, draw_flat, draw_line
from transfer.evaluation.store import Results, Row
from transfer.evaluation.summary import ALL
from transfer.evaluation.tables import budget_kind
from transfer.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

#: What is to the right: a field of entries, what it is called, and its unit.
ACROSS = (
    ("held_mean", "tokens of a head, average", 1),
    ("held_peak", "tokens of a head, peak", 1),
    ("peak_bytes", "KB of the cache, peak", 1000),
)


@dataclass(frozen=True)
class HeldCurves:
    """Lines of one task; they are drawn three times, against everything in `ACROSS`.

    Attributes:
        about: the task, and what else tells it from others.
        lines: entries of each policy and kind of budget, by their budgets.
        flat: of who never evicts.
    """

    about: str
    lines: Mapping[str, Sequence[Row]]
    flat: Mapping[str, Row]


def held_curves(results: Results) -> list[HeldCurves]:
    """Those of each task by the metric that counts; none where no policy has several budgets."""
    tasks: dict[tuple[str, ...], list[Row]] = {}
    for entry in results.summary:
        if (entry.get("group_by"), entry["metric"]) == (ALL, results.metrics[0]):
            about = (entry["task"], *(f"{key} {entry[key]}" for key in results.keys))
            tasks.setdefault(about, []).append(entry)
    several = (len(own) > 1 for each in tasks.values() for own in by_name(_pruned(each)).values())
    if not any(several):
        return []
    return [_of_task(", ".join(about), entries) for about, entries in tasks.items()]


def _of_task(about: str, entries: Sequence[Row]) -> HeldCurves:
    scored = (one for one in entries if one["mean"] is not None and budget_kind(one) is None)
    return HeldCurves(about, dict(_lines(_pruned(entries))), {one["policy"]: one for one in scored})


def _pruned(entries: Sequence[Row]) -> list[Row]:
    """Those of who evicts that have a score; earlier versions have not measured what is held."""
    return [
        one
        for one in entries
        if one["mean"] is not None and budget_kind(one) and one.get("held_mean") is not None
    ]


def _lines(entries: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The entries of each policy; where there are several kinds of budget, of each kind."""
    kinds = list(dict.fromkeys(map(budget_kind, entries)))
    for kind in kinds:
        named = by_name([entry for entry in entries if budget_kind(entry) == kind])
        for name, own in named.items():
            yield name if len(kinds) == 1 else f"{name}, {kind}", list(own.values())


def draw_held(found: Sequence[HeldCurves], metric: str) -> "Figure":
    """Draw a row of three pictures for each task.

    Args:
        found: at least one, of `held_curves`.
        metric: whose scores they are.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure = new_figure(14, 1 + 4 * len(found))
    grid = figure.subplots(len(found), len(ACROSS), squeeze=False)
    for row, curves in zip(grid, found):
        for axes, (field, words, unit) in zip(row, ACROSS):
            for number, (label, entries) in enumerate(curves.lines.items()):
                there = sorted(
                    ((entry[field] / unit, entry) for entry in entries), key=lambda one: one[0]
                )
                draw_line(axes, label, there, number)
            for policy, entry in curves.flat.items():
                draw_flat(axes, policy, entry)
            axes.set_xlabel(words)
        row[0].set_ylabel(metric)
        row[1].set_title(curves.about, size="medium")
    labels = {
        label: handle
        for axes in grid[:, 0]
        for handle, label in zip(*axes.get_legend_handles_labels())
    }
    figure.legend(labels.values(), labels.keys(), loc="outside right upper", fontsize="small")
    return figure

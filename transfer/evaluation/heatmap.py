"""The picture of a grid of lengths and depths: a panel for each policy and budget."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.evaluation.store import Results, Row
from transfer.evaluation.tables import budget_text
from transfer.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # pyright: ignore[reportMissingImports]
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    from matplotlib.image import AxesImage  # pyright: ignore[reportMissingImports]

#: Panels beside each other.
_COLUMNS = 4
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Panel:
    """What one contender scored at one task.

    Args:
        about: task, what else was told apart, and the policy with its budget.
        scores: means by length and depth.
    """

    about: tuple[str, ...]
    scores: Mapping[tuple[int, float], float | None]


def panels(results: Results) -> list[Panel]:
    """Those of the metric that counts; none where not several lengths have scores by depth."""
    found: dict[tuple[str, ...], dict[tuple[int, float], float | None]] = {}
    for entry in _cells(results):
        others = (str(entry[key]) for key in results.keys if key != "length")
        budget = "" if entry["budget"] is None else f" {budget_text(entry['budget'])}"
        about = (entry["task"], *others, f"{entry['policy']}{budget}")
        found.setdefault(about, {})[entry["length"], float(entry["group"])] = entry["mean"]
    if len({length for scores in found.values() for length, _ in scores}) < 2:
        return []
    return [Panel(about, scores) for about, scores in found.items()]


def _cells(results: Results) -> Iterator[Row]:
    for entry in results.summary:
        # Of texts that are as they are, and of other things called depth, there is no grid.
        placed = isinstance(entry.get("length"), int) and _NUMBER.fullmatch(str(entry.get("group")))
        if placed and (entry["group_by"], entry["metric"]) == ("depth", results.metrics[0]):
            yield entry


def draw_heatmap(found: list[Panel], metric: str) -> "Figure":
    """Draw panels beside and below each other, in colours that the colour-blind tell apart.

    Args:
        found: at least one, of `panels`.
        metric: whose scores from 0 to 1 they are.

    Raises:
        UserError: matplotlib is not installed.
    """
    columns = min(_COLUMNS, len(found))
    rows = math.ceil(len(found) / columns)
    figure = new_figure(1 + 3 * columns, 3 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    lengths = sorted({length for panel in found for length, _ in panel.scores})
    depths = sorted({depth for panel in found for _, depth in panel.scores})
    # What all panels have in common is said once.
    common = [word for word in found[0].about[:-1] if all(word in each.about for each in found)]
    for own in axes.flat[len(found) :]:
        own.axis("off")
    images = []
    for own, panel in zip(axes.flat, found):
        images.append(_draw(own, panel, lengths, depths))
        words = (word for word in panel.about if word not in common)
        own.set_title(" ".join(words), size="small")
    figure.supylabel("depth", size="medium")
    figure.supxlabel("tokens", size="medium")
    figure.suptitle(" ".join(common), size="medium")
    figure.colorbar(images[-1], ax=axes, label=metric)
    return figure


def _draw(axes: "Axes", panel: Panel, lengths: list[int], depths: list[float]) -> "AxesImage":
    """Lengths to the right, depths downwards; what has no score is left white."""
    scores = [[panel.scores.get((length, depth)) for length in lengths] for depth in depths]
    values = [[math.nan if score is None else score for score in row] for row in scores]
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths], rotation=45)
    axes.set_yticks(range(len(depths)), [f"{depth:g}" for depth in depths])
    return axes.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")

"""What there is to draw of runs: which lines belong into one figure, and what its drawing is told.

A figure has the numbers of its lines, not the lines, so that a page says each number once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from transfer.evaluation.store import SUITE, Row
from transfer.evaluation.summary import ALL, FAMILY
from transfer.report import drawings, heat_drawings
from transfer.report.lines import settings_of
from transfer.report.runs import Evaluated, Evolved, Run
from transfer.report.vega import Drawing

#: Sections of a page: heading, what is said under it, and the drawing.
SECTIONS: Mapping[str, tuple[str, str, Drawing]] = {
    "held": (
        "Score against what is held",
        "Whoever is above another at the same place is better at the same memory, whatever kind of "
        "budget either has. Bars are 95% intervals; who never evicts is a line across.",
        drawings.held(),
    ),
    "forest": (
        "Paired differences",
        "On the same items, with 95% intervals; an interval beside zero is a difference.",
        drawings.forest(),
    ),
    "matrix": (
        "Side by side",
        "Colours go from the least to the most of each column.",
        heat_drawings.matrix(),
    ),
    "heat": ("Heat maps", "A panel for each policy and budget.", heat_drawings.heat()),
    "series": ("Score against a setting", "Bars are 95% intervals.", drawings.series()),
    "steps": (
        "Returns over time",
        "What episodes returned up to each step; bands hold nine in ten of them.",
        drawings.over_steps(),
    ),
    "evolution": (
        "Evolution",
        "The mean of each generation, and of the search's mean on held-out data.",
        drawings.generations(),
    ),
}


@dataclass(frozen=True)
class Figure:
    """One picture.

    Attributes:
        section: of the page.
        title: what it is of.
        run: number of its run.
        metric: of its lines; empty: of no metric.
        model, task: of its lines; empty: of several.
        rows: numbers of its lines.
        values: what is drawn where these are no lines; fields added to lines, where both are given.
        fill: for the drawing's placeholders.
    """

    section: str
    title: str
    run: int
    metric: str = ""
    model: str = ""
    task: str = ""
    rows: Sequence[int] = ()
    values: Sequence[Row] = ()
    fill: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> Row:
        """What a page is told."""
        return {name: value for name, value in asdict(self).items() if value not in ("", (), {})}

    def data(self, lines: Sequence[Row]) -> list[Row]:
        """What is drawn."""
        if not self.rows:
            return list(self.values)
        added = self.values or [{}] * len(self.rows)
        return [lines[row] | more for row, more in zip(self.rows, added)]


def figures(runs: Sequence[Run], lines: Sequence[Row]) -> list[Figure]:
    """Everything that can be drawn of runs.

    Args:
        runs: all of a page.
        lines: of all of them.
    """
    found: list[Figure] = []
    for number, run in enumerate(runs):
        if isinstance(run, Evolved):
            found += _evolution(number, run)
        else:
            own = [(row, line) for row, line in enumerate(lines) if line["run"] == number]
            found += [*_of_lines(run, own), *_steps(number, run)]
    return found


Numbered = tuple[int, Row]


def _parted(own: Iterable[Numbered], key: Callable[[Row], Any]) -> dict[Any, list[Numbered]]:
    parts: dict[Any, list[Numbered]] = {}
    for row, line in own:
        parts.setdefault(key(line), []).append((row, line))
    return parts


def _figure(section: str, title: str, own: Sequence[Numbered], **more: Any) -> Figure:
    first = own[0][1]
    about = {
        name: first[name]
        for name in ("metric", "model", "task")
        if len({line[name] for _, line in own}) == 1
    }
    return Figure(section, title, first["run"], rows=[row for row, _ in own], **{**about, **more})


def _of_lines(run: Evaluated, own: Sequence[Numbered]) -> Iterator[Figure]:
    whole = [one for one in own if one[1]["group_by"] in (ALL, FAMILY)]
    for (model, task, metric), cell in _parted(whole, _cell).items():
        title, words = f"{model}: {task}", run.measure(metric)
        if any("kind" in line for _, line in cell):
            yield _figure("held", title, cell, fill={"y": words})
        if any(name.startswith("against_") for _, line in cell for name in line):
            yield _figure("forest", title, cell, fill={"y": words})
    for (metric, by), many in _parted(own, lambda line: (line["metric"], line["group_by"])).items():
        yield from _matrices(run, metric, by, many)
        yield from _depths(run, metric, many) if by == "depth" else ()
    for metric, many in _parted(whole, lambda line: line["metric"]).items():
        yield from _settings(run, metric, [one for one in many if one[1]["group_by"] == ALL])


def _cell(line: Row) -> tuple[str, str, str]:
    return line["model"], line["task"], line["metric"]


def _matrices(run: Evaluated, metric: str, by: str, own: Sequence[Numbered]) -> Iterator[Figure]:
    """Tasks side by side, or the groups of each task."""
    form = ".1f" if own[0][1]["scale"] == 100 or run.kind == SUITE else ".3~r"
    words = run.measure(metric)
    if by in (ALL, FAMILY):
        models = {line["model"] for _, line in own}
        if len({line["task"] for _, line in own}) > 1 and by == ALL:
            title = f"{words}: {', '.join(sorted(models)) if len(models) < 4 else 'all models'}"
            pairs = {(line["model"], line["task"]) for _, line in own}
            several = len(pairs) > len({task for _, task in pairs})
            asked = [f"{line['model']} · {line['task']}" if several else line["task"]
                     for _, line in own]  # fmt: skip
            added = [{"column": name} for name in _shortened(asked)]
            yield _figure("matrix", title, own, values=added, fill={"form": form})
        return
    for (model, task, _), cell in _parted(own, _cell).items():
        title = f"{model}: {task}, {words} by {by.replace('_', ' ')}"
        added = [{"column": line["group"] or "-"} for _, line in cell]
        yield _figure("matrix", title, cell, values=added, fill={"form": form})


def _shortened(names: Sequence[str]) -> list[str]:
    """Names without the parts that all of them have."""
    parts = [name.split(" · ") for name in names]
    common = set.intersection(*map(set, parts))
    return [" · ".join(part for part in own if part not in common) or own[0] for own in parts]


def _depths(run: Evaluated, metric: str, own: Sequence[Numbered]) -> Iterator[Figure]:
    """Lengths to the right and depths down, where there are several of both."""

    def rest(line: Row) -> tuple[Any, ...]:
        others = {k: v for k, v in line["settings"].items() if k != "length"}
        return line["model"], tuple(others.items())

    for (model, others), cell in _parted(own, rest).items():
        grid = [one for one in cell if _is_of_grid(one[1])]
        if len({line["settings"]["length"] for _, line in grid}) > 1:
            added = [
                {"right": line["settings"]["length"], "down": float(line["group"])}
                for _, line in grid
            ]
            about = _in_words(others)
            yield _heat(f"{model}: {about}", grid, added, "depth", run.measure(metric))


def _is_of_grid(line: Row) -> bool:
    """Not one of a text that is as it is, or of another thing called depth."""
    depth = settings_of({"task": "", "depth": line["group"]}, ["depth"])["depth"]
    return isinstance(depth, float) and isinstance(line["settings"].get("length"), float)


def _settings(run: Evaluated, metric: str, own: Sequence[Numbered]) -> Iterator[Figure]:
    """Of each number that was asked with several values: curves over it; tasks by lengths."""
    words = run.measure(metric)
    names = dict.fromkeys(name for _, line in own for name in line["settings"])
    for name in names:

        def rest(line: Row, name: str = name) -> tuple[Any, ...]:
            others = {k: v for k, v in line["settings"].items() if k != name}
            return line["model"], tuple(others.items())

        numbered = [one for one in own if isinstance(one[1]["settings"].get(name), float)]
        for (model, others), cell in _parted(numbered, rest).items():
            if len({line["settings"][name] for _, line in cell}) > 1:
                added = [{"right": line["settings"][name]} for _, line in cell]
                about = _in_words(others)
                fill = {"y": words, "x": name}
                yield _figure("series", f"{model}: {about}", cell, task="", values=added, fill=fill)
    lengths = [one for one in own if isinstance(one[1]["settings"].get("length"), float)]
    for model, cell in _parted(lengths, lambda line: line["model"]).items():
        asked = {(line["settings"]["task"], line["settings"]["length"]) for _, line in cell}
        if all(len({pair[side] for pair in asked}) > 1 for side in (0, 1)):
            added = [
                {"right": line["settings"]["length"], "down": line["settings"]["task"]}
                for _, line in cell
            ]
            yield _heat(f"{model}: tasks by length", cell, added, "task", words)


def _in_words(settings: Sequence[tuple[str, Any]]) -> str:
    """The task, and numbers by their names."""
    return " · ".join(
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else value
        for name, value in settings
    )


def _heat(
    title: str, own: Sequence[Numbered], added: Sequence[Row], down: str, words: str
) -> Figure:
    values = [line["mean"] * line["scale"] for _, line in own if "mean" in line]
    shares = own[0][1]["scale"] == 100
    domain = [0, 100] if shares else [min(values, default=0), max(values, default=1)]
    fill = {"y": words, "x": "tokens", "down": down, "range": domain}
    return _figure("heat", title, own, task="", values=added, fill=fill)


def _steps(number: int, run: Evaluated) -> Iterator[Figure]:
    for (model, task), values in run.returns().items():
        yield Figure("steps", f"{model}: {task}", number, model=model, task=task, values=values)


def _evolution(number: int, run: Evolved) -> Iterator[Figure]:
    for what, words in (("fitness", "fitness"), ("kept", "kept, share of the tokens")):
        values = run.values(what)
        if values:
            title = f"{run.name}: {what}"
            yield Figure("evolution", title, number, values=values, fill={"y": words})

"""The figures of a page as PNG files, for documents and papers; drawn without a browser."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.evaluation.store import Row
from transfer.files import replacing
from transfer.report.figures import SECTIONS, Figure, figures
from transfer.report.page import all_lines, converter
from transfer.report.runs import Evaluated, Run
from transfer.report.vega import ACROSS, Drawing

#: Colours on paper, as the page's style has them.
_PAPER = (
    "#2454d6", "#d9480f", "#0b8a6a", "#a3278f", "#9a7200", "#0089a8", "#c2255c", "#5f3dc4",
    "#4d7c0f", "#6b4f3a", "#3b82f6", "#f08c00", "#12b886", "#da77f2", "#868e96", "#e03131",
)  # fmt: skip
_SOFT = "#5b6475"
_CONFIG = {"background": "white", "font": "sans-serif", "view": {"stroke": "#dfe3ea"}}
_WIDTH = 520


def draw(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw every figure of the metrics that count into a folder.

    Returns:
        Their paths.

    Raises:
        UserError: vl-convert is not installed, or the folder cannot be written.
    """
    lines, convert = all_lines(runs), converter()
    paths = []
    for name, drawing in _drawings(runs, lines):
        path = folder / f"{name}.png"
        with replacing(path) as partial:
            partial.write_bytes(convert.vegalite_to_png(drawing, scale=2))
        paths.append(path)
    return paths


def _drawings(runs: Sequence[Run], lines: Sequence[Row]) -> Iterator[tuple[str, Drawing]]:
    numbers: dict[str, int] = {}
    for figure in figures(runs, lines):
        run = runs[figure.run]
        if isinstance(run, Evaluated) and figure.metric not in ("", run.results.metrics[0]):
            continue
        for name, chosen in _chosen(figure, lines):
            numbers[name] = numbers.get(name, 0) + 1
            yield f"{name}-{numbers[name]}", filled(figure, lines, chosen)


def _chosen(figure: Figure, lines: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """What a figure is drawn against: each that is measured, each base, or nothing."""
    data = figure.data(lines)
    if figure.section == "held":
        for field, words, unit in ACROSS:
            if any(field in line for line in data):
                yield f"held-{field.replace('_', '-')}", {"field": field, "x": words, "unit": unit}
    elif figure.section == "forest":
        for base in ("full", "window", "base"):
            if any(f"against_{base}" in line for line in data):
                yield f"forest-{base}", {"field": base, "x": f"difference to {base}"}
    else:
        yield figure.section, {}


def filled(figure: Figure, lines: Sequence[Row], chosen: Mapping[str, Any]) -> Drawing:
    """A figure's drawing with its data and everything that it is told."""
    data = figure.data(lines)
    policies = list(dict.fromkeys(line["line"] for line in data if "line" in line))
    told = {
        "policies": policies,
        "colours": [_PAPER[place % len(_PAPER)] for place in range(len(policies) or len(_PAPER))],
        "legend": {"title": None, "symbolLimit": 0},
        "kinds": {"title": "budget"} if len({line.get("kind") for line in data}) > 2 else None,
        "soft": _SOFT,
        "columns": 4,
        "height": 24 + 18 * len({line.get("contender") for line in data}),
        **figure.fill,
        **chosen,
    }
    drawing = fill(SECTIONS[figure.section][2], told)
    if drawing.get("width") == "container":
        drawing["width"] = _WIDTH
    return drawing | {"title": figure.title, "data": {"values": data}, "config": _CONFIG}


def fill(drawing: Any, told: Mapping[str, Any]) -> Any:
    """A drawing with what stands for its placeholders."""
    names = "|".join(map(re.escape, told))
    text = re.sub(rf'"\$({names})"', lambda found: json.dumps(told[found[1]]), json.dumps(drawing))
    return json.loads(text)

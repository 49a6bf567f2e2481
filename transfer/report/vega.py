"""Words of Vega-Lite that drawings have in common; the page and the pictures draw the same ones.

Vega-Lite was chosen over plotly and over SVG of our own: vl-convert brings it as one script of
0.9 MB with nothing beside it and also draws PNG without a browser, plotly's Python package has the
whole bundle alone (4.8 MB, over what a page may have) and needs a browser for PNG, and SVG of our
own would be axes, ticks and legends to maintain. Drawings are plain data, so altair, which checks
and writes such data, is not needed.

Strings that begin with `$` are filled in for each figure. Colours are variables of the page's
style, so that a drawing need not be made again for dark, light or paper.
"""

from typing import Any

Drawing = dict[str, Any]

#: What scores are drawn against: a field of lines, its words, and its unit.
ACROSS = (
    ("held_mean", "tokens of a head, average", 1.0),
    ("held_peak", "tokens of a head, peak", 1.0),
    ("kept_tokens", "tokens of a head, end", 1.0),
    ("bytes_mean", "KB of the cache, average", 1000.0),
    ("peak_bytes", "KB of the cache, peak", 1000.0),
    ("cache_bytes", "KB of the cache, end", 1000.0),
)
#: Colours of policies, then again from the first.
COLOURS = 16
#: Of one item there are no bounds.
SCORED = [
    {
        "calculate": f"(isValid(datum.{name}) ? datum.{name} : datum.mean) * datum.scale",
        "as": f"shown_{name}",
    }
    for name in ("mean", "low", "high")
]
#: As wide as its place on the page.
SIZE = {"width": "container", "height": 280, "autosize": {"type": "fit-x", "contains": "padding"}}
COLOUR = {
    "field": "line",
    "type": "nominal",
    "scale": {"domain": "$policies", "range": "$colours"},
    "legend": "$legend",
}
KIND = {
    "field": "kind",
    "type": "nominal",
    "title": "budget",
    "scale": {"domain": ["fraction", "size", "threshold"]},
    "legend": "$kinds",
}
DASHES = KIND["scale"] | {"range": [[1, 0], [6, 3], [2, 2]]}
SHAPES = KIND["scale"] | {"range": ["circle", "square", "diamond"]}
EVICTS = "isValid(datum.kind)"
UP = {"field": "shown_mean", "type": "quantitative", "title": "$y", "scale": {"zero": False}}
WIDE = {"condition": {"test": "indexof(datum.line, 'namm') == 0", "value": 2.5}, "value": 1.2}


def tip(field: str, title: str, form: str = ".4~r") -> Drawing:
    """A number that is shown under the mouse."""
    return {"field": field, "title": title, "format": form, "type": "quantitative"}


WHO = {"field": "contender", "title": "policy", "type": "nominal"}
SCORE_TIPS = [
    WHO,
    tip("shown_mean", "score"),
    tip("shown_low", "95% from"),
    tip("shown_high", "to"),
    tip("n", "items", "d"),
]
HELD_TIPS = [
    tip("held_mean", "tokens, average", ",.1~f"),
    tip("held_peak", "tokens, peak", ",.1~f"),
    tip("peak_bytes", "bytes, peak", ",d"),
]

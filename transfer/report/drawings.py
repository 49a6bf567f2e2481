"""Drawings in the words of Vega-Lite; the page and the pictures draw the same ones.

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
_SCORED = [
    {
        "calculate": f"(isValid(datum.{name}) ? datum.{name} : datum.mean) * datum.scale",
        "as": f"shown_{name}",
    }
    for name in ("mean", "low", "high")
]
#: As wide as its place on the page.
_SIZE = {"width": "container", "height": 280, "autosize": {"type": "fit-x", "contains": "padding"}}
_COLOUR = {
    "field": "line",
    "type": "nominal",
    "scale": {"domain": "$policies", "range": "$colours"},
    "legend": "$legend",
}
_KIND = {
    "field": "kind",
    "type": "nominal",
    "title": "budget",
    "scale": {"domain": ["fraction", "size", "threshold"]},
    "legend": "$kinds",
}
_DASHES = _KIND["scale"] | {"range": [[1, 0], [6, 3], [2, 2]]}
_SHAPES = _KIND["scale"] | {"range": ["circle", "square", "diamond"]}
_EVICTS = "isValid(datum.kind)"
_Y = {"field": "shown_mean", "type": "quantitative", "title": "$y", "scale": {"zero": False}}
_WIDE = {"condition": {"test": "indexof(datum.line, 'namm') == 0", "value": 2.5}, "value": 1.2}


def _tip(field: str, title: str, form: str = ".4~r") -> Drawing:
    return {"field": field, "title": title, "format": form, "type": "quantitative"}


_WHO = {"field": "contender", "title": "policy", "type": "nominal"}
_SCORE_TIPS = [
    _WHO,
    _tip("shown_mean", "score"),
    _tip("shown_low", "95% from"),
    _tip("shown_high", "to"),
    _tip("n", "items", "d"),
]
_HELD_TIPS = [
    _tip("held_mean", "tokens, average", ",.1~f"),
    _tip("held_peak", "tokens, peak", ",.1~f"),
    _tip("peak_bytes", "bytes, peak", ",d"),
]


def held() -> Drawing:
    """Scores over what is held; who never evicts is a line across."""
    place = {"field": "place", "type": "quantitative", "title": "$x", "axis": {"tickCount": 6}}
    pruned = [
        {"calculate": "datum[across] / unit", "as": "place"},
        {"filter": f"{_EVICTS} && isValid(datum.place)"},
    ]
    return {
        **_SIZE,
        "params": [{"name": "across", "value": "$field"}, {"name": "unit", "value": "$unit"}],
        "transform": [*_SCORED, {"filter": "isValid(datum.mean)"}],
        "layer": [
            # Of who evicts it has no width, rather than no data: then there would be no axis.
            {
                "mark": {"type": "rule", "strokeDash": [8, 4]},
                "encoding": {
                    "y": _Y,
                    "color": _COLOUR,
                    "strokeWidth": {"condition": {"test": _EVICTS, "value": 0}, "value": 1.5},
                    "tooltip": _SCORE_TIPS,
                },
            },
            {
                "mark": {"type": "text", "align": "right", "dx": -4, "dy": -6, "x": "width"},
                "encoding": {
                    "y": _Y,
                    "color": _COLOUR,
                    "text": {
                        "condition": {"test": f"!{_EVICTS}", "field": "contender"},
                        "value": "",
                    },
                },
            },
            *(
                {"transform": pruned, **layer}
                for layer in (
                    {
                        "mark": {"type": "rule", "opacity": 0.6},
                        "encoding": {
                            "x": place,
                            "y": _Y | {"field": "shown_low"},
                            "y2": {"field": "shown_high"},
                            "color": _COLOUR,
                        },
                    },
                    {
                        "mark": {"type": "line"},
                        "encoding": {
                            "x": place,
                            "y": _Y,
                            "color": _COLOUR,
                            "strokeDash": _KIND | {"scale": _DASHES},
                            "strokeWidth": _WIDE,
                        },
                    },
                    {
                        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                        "encoding": {
                            "x": place,
                            "y": _Y,
                            "color": _COLOUR,
                            "shape": _KIND | {"scale": _SHAPES},
                            "tooltip": [*_SCORE_TIPS, *_HELD_TIPS],
                        },
                    },
                )
            ),
        ],
    }


def forest() -> Drawing:
    """Paired differences to a base with their intervals, the best on top."""
    names = ("delta", "delta_low", "delta_high")
    own = "datum['against_' + base]"
    bounds = (f"datum['against_' + base + '{end}']" for end in ("", "_low", "_high"))
    who = {
        "field": "contender",
        "type": "nominal",
        "title": None,
        "sort": {"field": "delta", "op": "max", "order": "descending"},
        "axis": {"labelLimit": 220},
    }
    across = {"type": "quantitative", "title": "$x"}
    return {
        **_SIZE,
        "height": "$height",
        "params": [{"name": "base", "value": "$field"}],
        "transform": [
            {"filter": f"isValid({own}) && datum.policy != base"},
            *(
                {"calculate": f"(isValid({b}) ? {b} : {own}) * datum.scale", "as": name}
                for name, b in zip(names, bounds)
            ),
        ],
        "layer": [
            {
                "mark": {"type": "rule", "strokeDash": [3, 3], "color": "$soft"},
                "encoding": {"x": {"datum": 0}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    "y": who,
                    "x": across | {"field": "delta_low"},
                    "x2": {"field": "delta_high"},
                    "color": _COLOUR,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {
                    "y": who,
                    "x": across | {"field": "delta"},
                    "color": _COLOUR,
                    "tooltip": [
                        _WHO,
                        _tip("delta", "difference"),
                        _tip("delta_low", "95% from"),
                        _tip("delta_high", "to"),
                        _tip("n", "items", "d"),
                    ],
                },
            },
        ],
    }


def matrix() -> Drawing:
    """Everybody's score on everything: colours from the least to the most of each column."""
    column = {"field": "column", "type": "nominal", "title": None, "sort": None}
    who = {"field": "contender", "type": "nominal", "title": None, "sort": None}
    head = {"labelAngle": -35, "orient": "top", "labelLimit": 240}
    return {
        "width": {"step": 62},
        "height": {"step": 20},
        "transform": [
            *_SCORED,
            {"filter": "isValid(datum.mean)"},
            {
                "joinaggregate": [
                    {"op": "min", "field": "shown_mean", "as": "least"},
                    {"op": "max", "field": "shown_mean", "as": "most"},
                ],
                "groupby": ["column"],
            },
            {
                "calculate": "datum.most > datum.least ? "
                "(datum.shown_mean - datum.least) / (datum.most - datum.least) : 1",
                "as": "rank",
            },
        ],
        "encoding": {
            "x": column | {"axis": head},
            "y": who | {"axis": {"labelLimit": 220}},
        },
        "layer": [
            {
                "mark": {"type": "rect", "tooltip": True},
                "encoding": {
                    "color": {
                        "field": "rank",
                        "type": "quantitative",
                        "scale": {"scheme": "viridis", "domain": [0, 1]},
                        "legend": None,
                    },
                    "tooltip": [
                        {"field": "column", "title": "asked", "type": "nominal"},
                        *_SCORE_TIPS,
                    ],
                },
            },
            {
                "mark": {"type": "text", "fontSize": 11},
                "encoding": {
                    "text": {"field": "shown_mean", "format": "$form", "type": "quantitative"},
                    "color": {
                        "condition": {"test": "datum.rank > 0.6", "value": "#101010"},
                        "value": "#ffffff",
                    },
                },
            },
        ],
    }


def heat() -> Drawing:
    """A panel for each contender: scores by two things that were asked."""
    return {
        "transform": [*_SCORED, {"filter": "isValid(datum.mean)"}],
        "facet": {
            "field": "contender",
            "type": "nominal",
            "sort": None,
            "title": None,
            "header": {"labelFontWeight": "bold"},
        },
        "columns": "$columns",
        "spec": {
            "width": 170,
            "height": {"step": 20},
            "mark": {"type": "rect"},
            "encoding": {
                "x": {
                    "field": "right",
                    "type": "ordinal",
                    "title": "$x",
                    "axis": {"labelAngle": -35, "labelExpr": "format(datum.value, ',')"},
                },
                "y": {"field": "down", "type": "ordinal", "title": "$down", "sort": "ascending"},
                "color": {
                    "field": "shown_mean",
                    "type": "quantitative",
                    "title": "$y",
                    "scale": {"scheme": "viridis", "domain": "$range"},
                },
                "tooltip": [
                    {"field": "right", "title": "$x", "type": "nominal"},
                    {"field": "down", "title": "$down", "type": "nominal"},
                    *_SCORE_TIPS,
                ],
            },
        },
    }


def series() -> Drawing:
    """Scores over a setting that has several values."""
    place = {"field": "right", "type": "ordinal", "title": "$x", "axis": {"labelAngle": 0}}
    budget = {"field": "contender", "type": "nominal"}
    return {
        **_SIZE,
        "transform": [*_SCORED, {"filter": "isValid(datum.mean)"}],
        "layer": [
            {
                "mark": {"type": "rule", "opacity": 0.5},
                "encoding": {
                    "x": place,
                    "y": _Y | {"field": "shown_low"},
                    "y2": {"field": "shown_high"},
                    "color": _COLOUR,
                },
            },
            {
                "mark": {"type": "line"},
                "encoding": {
                    "x": place,
                    "y": _Y,
                    "color": _COLOUR,
                    "detail": budget,
                    "strokeWidth": _WIDE,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
                "encoding": {
                    "x": place,
                    "y": _Y,
                    "color": _COLOUR,
                    "tooltip": [*_SCORE_TIPS, {"field": "right", "title": "$x", "type": "nominal"}],
                },
            },
        ],
    }


def over_steps() -> Drawing:
    """What episodes returned up to each step: the mean, and what nine in ten are within."""
    step = {"field": "step", "type": "quantitative", "title": "step"}
    return {
        **_SIZE,
        "encoding": {"x": step, "color": _COLOUR, "detail": {"field": "contender"}},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.12},
                "encoding": {
                    "y": {"field": "low", "type": "quantitative", "title": "return so far"},
                    "y2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "line", "tooltip": True},
                "encoding": {
                    "y": {"field": "mean", "type": "quantitative", "title": "return so far"},
                    "strokeWidth": _WIDE,
                    "tooltip": [_WHO, _tip("step", "step", "d"), _tip("mean", "return so far")],
                },
            },
        ],
    }


def generations() -> Drawing:
    """An evolution: each generation's mean lightly, and what its mean does on held-out data."""
    tips = [
        {"field": "seed", "title": "search", "type": "nominal"},
        {"field": "of", "type": "nominal"},
        _tip("generation", "generation", "d"),
        _tip("value", "value"),
    ]
    own = {"each generation": {"strokeWidth": 1, "opacity": 0.5}, "held out": {"point": True}}
    return {
        **_SIZE,
        "encoding": {
            "x": {"field": "generation", "type": "quantitative", "title": "generation"},
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": "$y",
                "scale": {"zero": False},
            },
            "color": {
                "field": "seed",
                "type": "nominal",
                "scale": {"range": "$colours"},
                "title": "search",
            },
            "tooltip": tips,
        },
        "layer": [
            {
                "transform": [{"filter": f"datum.of == '{name}'"}],
                "mark": {"type": "line", "tooltip": True, **look},
            }
            for name, look in own.items()
        ],
    }

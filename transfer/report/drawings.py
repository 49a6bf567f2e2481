"""Drawings of scores over something, or of differences."""

from transfer.report.vega import (
    COLOUR,
    DASHES,
    EVICTS,
    HELD_TIPS,
    KIND,
    SCORE_TIPS,
    SCORED,
    SHAPES,
    SIZE,
    UP,
    WHO,
    WIDE,
    Drawing,
    tip,
)


def _layer(mark: Drawing, x: Drawing, **encoding: object) -> Drawing:
    """Scores at their places."""
    return {"mark": mark, "encoding": {"x": x, "y": UP, "color": COLOUR, **encoding}}


def _interval(x: Drawing, opacity: float) -> Drawing:
    ends = {"y": UP | {"field": "shown_low"}, "y2": {"field": "shown_high"}}
    return _layer({"type": "rule", "opacity": opacity}, x, **ends)


def _points(x: Drawing, size: int, **encoding: object) -> Drawing:
    mark = {"type": "point", "filled": True, "size": size, "opacity": 1}
    return _layer(mark, x, **encoding)


#: Who never evicts: a line across with the name at its end.
_UNPRUNED: list[Drawing] = [
    # Of who evicts it has no width, rather than no data: then there would be no axis.
    {
        "mark": {"type": "rule", "strokeDash": [8, 4]},
        "encoding": {
            "y": UP,
            "color": COLOUR,
            "strokeWidth": {"condition": {"test": EVICTS, "value": 0}, "value": 1.5},
            "tooltip": SCORE_TIPS,
        },
    },
    {
        "mark": {"type": "text", "align": "right", "dx": -4, "dy": -6, "x": "width"},
        "encoding": {
            "y": UP,
            "color": COLOUR,
            "text": {"condition": {"test": f"!{EVICTS}", "field": "contender"}, "value": ""},
        },
    },
]


def held() -> Drawing:
    """Scores over what is held; who never evicts is a line across."""
    place = {"field": "place", "type": "quantitative", "title": "$x", "axis": {"tickCount": 6}}
    pruned = [
        {"calculate": "datum[across] / unit", "as": "place"},
        {"filter": f"{EVICTS} && isValid(datum.place)"},
    ]
    dashes, shapes = KIND | {"scale": DASHES}, KIND | {"scale": SHAPES}
    layers = [
        _interval(place, 0.6),
        _layer({"type": "line"}, place, strokeDash=dashes, strokeWidth=WIDE),
        _points(place, 60, shape=shapes, tooltip=[*SCORE_TIPS, *HELD_TIPS]),
    ]
    return {
        **SIZE,
        "params": [{"name": "across", "value": "$field"}, {"name": "unit", "value": "$unit"}],
        "transform": [*SCORED, {"filter": "isValid(datum.mean)"}],
        "layer": [*_UNPRUNED, *({"transform": pruned, **layer} for layer in layers)],
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
        **SIZE,
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
                    "color": COLOUR,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {
                    "y": who,
                    "x": across | {"field": "delta"},
                    "color": COLOUR,
                    "tooltip": [
                        WHO,
                        tip("delta", "difference"),
                        tip("delta_low", "95% from"),
                        tip("delta_high", "to"),
                        tip("n", "items", "d"),
                    ],
                },
            },
        ],
    }


def series() -> Drawing:
    """Scores over a setting that has several values."""
    place = {"field": "right", "type": "ordinal", "title": "$x", "axis": {"labelAngle": 0}}
    budget = {"field": "contender", "type": "nominal"}
    tips = [*SCORE_TIPS, {"field": "right", "title": "$x", "type": "nominal"}]
    return {
        **SIZE,
        "transform": [*SCORED, {"filter": "isValid(datum.mean)"}],
        "layer": [
            _interval(place, 0.5),
            _layer({"type": "line"}, place, detail=budget, strokeWidth=WIDE),
            _points(place, 50, tooltip=tips),
        ],
    }


def over_steps() -> Drawing:
    """What episodes returned up to each step: the mean, and what nine in ten are within."""
    step = {"field": "step", "type": "quantitative", "title": "step"}
    return {
        **SIZE,
        "encoding": {"x": step, "color": COLOUR, "detail": {"field": "contender"}},
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
                    "strokeWidth": WIDE,
                    "tooltip": [WHO, tip("step", "step", "d"), tip("mean", "return so far")],
                },
            },
        ],
    }


def generations() -> Drawing:
    """An evolution: each generation's mean lightly, and what its mean does on held-out data."""
    tips = [
        {"field": "seed", "title": "search", "type": "nominal"},
        {"field": "of", "type": "nominal"},
        tip("generation", "generation", "d"),
        tip("value", "value"),
    ]
    own = {"each generation": {"strokeWidth": 1, "opacity": 0.5}, "held out": {"point": True}}
    return {
        **SIZE,
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

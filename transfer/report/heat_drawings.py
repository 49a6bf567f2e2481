"""Drawings whose colours are scores."""

from transfer.report.vega import SCORE_TIPS, SCORED, Drawing


def matrix() -> Drawing:
    """Everybody's score on everything: colours from the least to the most of each column."""
    column = {"field": "column", "type": "nominal", "title": None, "sort": None}
    who = {"field": "contender", "type": "nominal", "title": None, "sort": None}
    head = {"labelAngle": -35, "orient": "top", "labelLimit": 240}
    return {
        "width": {"step": 62},
        "height": {"step": 20},
        "transform": [
            *SCORED,
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
                        *SCORE_TIPS,
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
        "transform": [*SCORED, {"filter": "isValid(datum.mean)"}],
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
                    *SCORE_TIPS,
                ],
            },
        },
    }

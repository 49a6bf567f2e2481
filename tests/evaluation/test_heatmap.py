"""The picture of a grid of lengths and depths, from the results of a run."""

import sys
from dataclasses import replace

import pytest

from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation.heatmap import draw_heatmap, panels
from transfer.evaluation.store import SUMMARY_FIELDS, Results, write_results

LENGTHS, DEPTHS = (2048, 1024), ("0", "1", "0.5")


def entry(policy, budget, length, depth, mean, **more):
    told = {"task": "niah", "policy": policy, "budget": budget, "metric": "score", "mean": mean}
    by = {"group_by": "depth", "group": depth} if depth else {"group_by": "all", "group": ""}
    return dict.fromkeys(SUMMARY_FIELDS, 1.0) | told | by | {"length": length} | more


def grid(lengths=LENGTHS, **more) -> Results:
    """Two contenders; scores say length and depth, one is missing."""
    entries = [
        entry(policy, budget, length, depth, share * (length / 4096 + float(depth or 0) / 10))
        for policy, budget, share in (("full", None, 1.0), ("h2o", 0.25, 0.5))
        for length in lengths
        for depth in (*DEPTHS, "")
    ]
    entries.append(entry("full", None, 1024, "0.5", 0.99, metric="log_likelihood"))
    entries[-2 - len(DEPTHS)]["mean"] = None
    given = {"kind": "toy", "command": "transfer eval", "versions": {}, "rows": []}
    told = {"metrics": ["score", "log_likelihood"], "keys": ["length"], "summary": entries}
    return Results(**{**given, **told, **more})


def test_a_panel_has_a_contenders_scores_by_length_and_depth():
    full, h2o = panels(grid(LENGTHS[:2]))
    assert (full.about, h2o.about) == (("niah", "full"), ("niah", "h2o 25%"))
    assert full.scores[1024, 0.5] == 1024 / 4096 + 0.05
    assert full.scores[2048, 1.0] == 2048 / 4096 + 0.1
    assert len(full.scores) == len(h2o.scores) == 6


def test_scores_of_other_keys_are_panels_of_their_own():
    results = grid(keys=["length", "question"])
    entries = [each | {"question": word} for word in ("hidden", "seen") for each in results.summary]
    assert [panel.about for panel in panels(replace(results, summary=entries))] == [
        ("niah", "hidden", "full"),
        ("niah", "hidden", "h2o 25%"),
        ("niah", "seen", "full"),
        ("niah", "seen", "h2o 25%"),
    ]


def test_without_several_lengths_or_depths_there_is_no_picture():
    assert panels(grid(lengths=(1024,))) == []
    whole = [each for each in grid().summary if each["group_by"] == "all"]
    assert panels(grid(summary=whole)) == []
    assert panels(grid(summary=[dict.fromkeys(SUMMARY_FIELDS)])) == []
    others = [{**each, "length": None} for each in grid().summary]
    assert panels(grid(summary=others)) == []
    others = [{**each, "group": "deep"} for each in grid().summary]
    assert panels(grid(summary=others)) == []


def test_depths_go_down_and_lengths_to_the_right():
    pytest.importorskip("matplotlib", reason="needs the extra `report`")
    found = panels(grid())
    figure = draw_heatmap(found, "score")
    full, h2o, _ = figure.axes
    assert (full.get_title(), h2o.get_title()) == ("full", "h2o 25%")
    assert [label.get_text() for label in full.get_xticklabels()] == ["1,024", "2,048"]
    assert [label.get_text() for label in full.get_yticklabels()] == ["0", "0.5", "1"]
    drawn = full.images[0].get_array()
    assert drawn[1, 0] == found[0].scores[1024, 0.5]
    assert drawn[2, 1] == found[0].scores[2048, 1.0]
    assert full.images[0].get_clim() == (0, 1)
    assert h2o.images[0].get_array().mask.sum() == 1


def test_report_draws_it_beside_the_tables(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs the extra `report`")
    write_results(tmp_path, grid())
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'heatmap.png'}\n")
    assert (tmp_path / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {
        "heatmap.png",
        "results.json",
        "summary.csv",
    }


def test_without_matplotlib_the_extra_to_install_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_results(tmp_path, grid())
    with pytest.raises(UserError, match=r"pip install namm-transfer\[report\]"):
        draw_heatmap(panels(grid()), "score")
    assert main(["report", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert "h2o" in told.out and told.err.count("\n") == 1

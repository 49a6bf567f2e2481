"""Lines and figures of runs: the numbers of results.json to the last bit, where they belong."""

from dataclasses import replace
from pathlib import Path

import pytest
import reported

from transfer.evaluation.store import Results
from transfer.report.figures import figures
from transfer.report.lines import line_names, lines, settings_of, title
from transfer.report.page import all_lines
from transfer.report.runs import Evaluated, read_runs


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Results:
    return reported.texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    reported.episodes(folder)
    return folder


def drawn(runs):
    found = all_lines(runs)
    return [(figure, figure.data(found)) for figure in figures(runs, found)]


def of_section(runs, section):
    return [(figure, data) for figure, data in drawn(runs) if figure.section == section]


def test_a_line_has_the_numbers_of_its_entry(texts):
    shown = [e for e in texts.summary if e["metric"] == "score" or e["group_by"] == "all"]
    found = lines(0, texts)
    assert len(found) == len(shown)
    names = ("mean", "low", "high", "held_mean", "held_peak", "peak_bytes", "n", "seconds")
    for line, told in zip(found, shown):
        assert [line.get(name) for name in names] == [told.get(name) for name in names]
        assert line.get("against_full_low") == told["delta_low"]
    assert {line["scale"] for line in found if line["metric"] == "score"} == {100.0}
    assert {line["scale"] for line in found if line["metric"] != "score"} == {1.0}
    kinds = {line["contender"]: line.get("kind") for line in found}
    assert kinds["full"] is None and kinds["h2o 25%"] == "fraction"
    assert kinds["h2o 64"] == "size" and kinds["namm:recall"] == "threshold"


def test_what_was_asked_is_said_in_words_and_in_parts():
    about = {"task": "gates:length=100,decoys=3", "target_return": 1.0, "length": None}
    assert (
        title(about, ("target_return", "length")) == "gates:length=100,decoys=3 · target return 1"
    )
    assert settings_of(about, ("target_return", "length")) == {
        "task": "gates", "length": 100.0, "decoys": 3.0, "target_return": 1.0,
    }  # fmt: skip
    assert title({"task": "niah", "length": 4096}, ("length",)) == "niah · 4,096 tokens"
    assert settings_of({"task": "mine:Colours"}, ()) == {"task": "mine:Colours"}


def test_policies_spelled_with_budgets_are_one_curve_unless_they_meet():
    def named(*spelled):
        told = {"kind": "language", "command": "", "versions": {}, "metrics": ["score"]}
        entries = [reported.entry(policy, budget, 0.5, task="t") for policy, budget in spelled]
        return line_names(Results(keys=[], rows=[], summary=entries, **told))

    assert set(named(("h2o:budget=12", 12), ("h2o", 24)).values()) == {"h2o"}
    met = named(("h2o:budget=12", 12), ("h2o", 12), ("h2o:budget=24:sinks=1", 24))
    assert set(met.values()) == {"h2o", "h2o:budget=12", "h2o:sinks=1"}


def test_curves_and_differences_are_of_each_task_and_metric(texts):
    runs = [Evaluated("run", texts)]
    held = of_section(runs, "held")
    assert len(held) == 2 * 2 * 2
    figure, data = held[0]
    assert (figure.task, figure.metric) == ("niah · 1,024 tokens", "score")
    assert [line["contender"] for line in data] == [
        "full", "namm 25%", "namm 50%", "h2o 25%", "h2o 50%", "h2o 64", "namm:recall",
    ]  # fmt: skip
    # Where nobody was compared there is nothing to draw.
    assert {figure.metric for figure, _ in of_section(runs, "forest")} == {"score"}
    full = [e for e in texts.summary if e["policy"] == "full" and e["metric"] == "score"]
    alone = replace(texts, summary=[one | {"delta_vs_full": None} for one in full])
    sections = {figure.section for figure, _ in drawn([Evaluated("run", alone)])}
    assert sections == {"matrix", "heat", "series"}


def test_heat_maps_have_depths_down_and_lengths_to_the_right(texts):
    found = of_section([Evaluated("run", texts)], "heat")
    depths = [data for figure, data in found if figure.fill["down"] == "depth"]
    assert len(depths) == 2
    cells = {(l["contender"], l["right"], l["down"]): l["mean"] for l in depths[0]}  # noqa: E741
    assert len(cells) == len(depths[0]) == 7 * 2 * 3
    [entry] = [
        e["mean"] for e in texts.summary
        if (e["task"], e["length"], e["group"], e["policy"]) == ("niah", 2048, "0.5", "full")
    ]  # fmt: skip
    assert cells["full", 2048.0, 0.5] == entry
    [(tasks, data)] = [(f, d) for f, d in found if f.fill["down"] == "task" and f.metric == "score"]
    assert tasks.fill["range"] == [0, 100]
    assert {(line["right"], line["down"]) for line in data} == {
        (length, task) for length in reported.LENGTHS for task in reported.TASKS
    }
    one = [e for e in texts.summary if e["length"] == 1024]
    assert not of_section([Evaluated("run", replace(texts, summary=one))], "heat")


def test_scores_over_a_setting_of_the_environment(episodes):
    runs = read_runs([episodes])
    series = {figure.metric: data for figure, data in of_section(runs, "series")}
    assert [(line["right"], line["contender"], line["mean"]) for line in series["success"]] == [
        (100, "full", 0.0), (100, "window", 0.1), (100, "namm 24", 0.2),
        (200, "full", 0.0), (200, "window", 0.1), (200, "namm 24", 0.2),
    ]  # fmt: skip
    # The one who is asked for a window's bounds gets those.
    [(_, data), *_] = of_section(runs, "forest")
    assert [line["against_window_low"] for line in data] == [-0.1] * 3


def test_columns_side_by_side_leave_out_what_all_have(texts):
    found = of_section([Evaluated("run", texts)], "matrix")
    whole = next(data for figure, data in found if figure.task == "")
    assert list(dict.fromkeys(line["column"] for line in whole)) == [
        "niah · 1,024 tokens", "niah · 2,048 tokens", "vt · 1,024 tokens", "vt · 2,048 tokens",
    ]  # fmt: skip
    one = replace(texts, summary=[e for e in texts.summary if e["task"] == "vt"])
    whole = next(d for f, d in of_section([Evaluated("run", one)], "matrix") if f.task == "")
    assert {line["column"] for line in whole} == {"1,024 tokens", "2,048 tokens"}
    depths = next(data for figure, data in found if "by depth" in figure.title)
    assert {line["column"] for line in depths} == set(reported.DEPTHS)


def test_returns_over_time_stay_where_an_episode_ended(episodes):
    [(figure, data)] = of_section(read_runs([episodes]), "steps")
    own = [one for one in data if one["contender"] == "namm 24"]
    # 0, 1, 2 and 0, 2, which ends there.
    assert [(one["step"], one["mean"]) for one in own] == [(0, 0.0), (5, 1.5), (10, 2.0)]
    assert own[1]["low"] == pytest.approx(1.05) and own[1]["high"] == pytest.approx(1.95)
    assert figure.model == "smol"


def test_an_evolution_has_its_generations_and_validations(tmp_path):
    reported.evolution(tmp_path)
    fitness, kept = (data for _, data in of_section(read_runs([tmp_path]), "evolution"))
    assert [(one["of"], one["generation"], one["value"]) for one in fitness] == [
        ("each generation", 0, 0.5), ("held out", 0, 0.0), ("each generation", 1, 0.75),
        ("each generation", 2, 1.0), ("held out", 2, 1.0),
    ]  # fmt: skip
    assert {one["value"] for one in kept} == {0.5}

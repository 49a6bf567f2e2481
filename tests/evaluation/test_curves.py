"""Pictures of control: scores against budgets and settings, from the entries of a summary."""

import pytest

from transfer.evaluation.curves import curves, draw_curves
from transfer.evaluation.store import SUMMARY_FIELDS, Results

TASKS = ("tmaze:length=100", "tmaze:length=200")


def entry(policy, budget, task, mean, low=0.0, **more):
    told = {"policy": policy, "budget": budget, "task": task, "mean": mean, "low": low, "high": 1.0}
    about = {"metric": "success", "group_by": "all", "group": "", "model": "mazes", "n": 9}
    return dict.fromkeys(SUMMARY_FIELDS) | about | told | {"target_return": 1.0} | more


def summary(tasks=TASKS, budgets=(12, 24), **more):
    for task in tasks:
        yield entry("full", None, task, 0.9, **more)
        for budget in budgets:
            yield entry("h2o", budget, task, budget / 100 + (task == TASKS[1]) / 10, **more)
        yield entry("oracle:after=3,budget=24", 24, task, 0.8, **more)


def results(entries, kind="control") -> Results:
    return Results(
        kind=kind, command="transfer eval", versions={}, rows=[], metrics=["success", "return"],
        keys=["target_return"], summary=list(entries),
    )  # fmt: skip


def test_one_against_budgets_and_one_against_settings():
    budget, task = curves(results(summary()))
    assert (budget.name, budget.about) == ("budget", "mazes in tmaze:length=100, n 9")
    assert budget.across == ("tokens of a head", ["12", "24"])
    assert [one["mean"] for one in budget.lines["h2o"]] == [0.12, 0.24]
    # Of one budget alone there is a point.
    assert budget.lines["oracle:after=3"][0] is None
    assert budget.lines["oracle:after=3"][1]["mean"] == 0.8
    assert {policy: one["mean"] for policy, one in budget.flat.items()} == {"full": 0.9}
    assert task.across == ("length", ["100", "200"])
    assert (task.name, task.about) == ("task", "mazes in tmaze, 24 tokens a head, n 9")
    assert [one["mean"] for one in task.lines["h2o"]] == pytest.approx([0.24, 0.34])
    assert [one["mean"] for one in task.lines["full"]] == [0.9, 0.9]


def test_where_there_is_nothing_to_compare_there_is_no_picture():
    assert curves(results(summary(TASKS[:1], (24,)))) == []
    assert curves(results(summary(), kind="language")) == []
    others = summary(metric="return")
    assert curves(results(others)) == []


def test_budgets_go_to_the_right_and_scores_up():
    pytest.importorskip("matplotlib", reason="needs the extra `report`")
    [across, _] = curves(results(summary()))
    [axes] = draw_curves(across, "success").axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens of a head", "success")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["12", "24"]
    [line] = [one for one in axes.lines if list(one.get_ydata()) == [0.12, 0.24]]
    assert list(line.get_xdata()) == [0, 1]

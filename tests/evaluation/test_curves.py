"""Curves of control: scores against budgets and settings, from the entries of a summary."""

import pytest

from transfer.evaluation.curves import curves
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
    # As `cache` has, a budget of its own that nobody else has.
    others = [entry("cache", 56, task, 0.5) for task in TASKS]
    budget, task = curves(results([*summary(), *others]))
    assert (budget.name, budget.about) == ("budget", "mazes in tmaze:length=100, n 9")
    assert budget.across == ("budget of a head", ["12", "24"])
    assert [one["mean"] for one in budget.lines["h2o"]] == [0.12, 0.24]
    # Of one budget alone there is a point.
    assert budget.lines["oracle:after=3"][0] is None
    assert budget.lines["oracle:after=3"][1]["mean"] == 0.8
    flat = {policy: one["mean"] for policy, one in budget.flat.items()}
    assert flat == {"full": 0.9, "cache (56)": 0.5}
    assert task.across == ("length", ["100", "200"])
    # Everybody at the largest budget of its own.
    assert (task.name, task.about) == ("task", "mazes in tmaze, n 9")
    assert [one["mean"] for one in task.lines["h2o"]] == pytest.approx([0.24, 0.34])
    assert [one["mean"] for one in task.lines["full"]] == [0.9, 0.9]
    assert [one["mean"] for one in task.lines["cache"]] == [0.5, 0.5]
    [_, task] = curves(results(summary()))
    assert task.about == "mazes in tmaze, 24 a head, n 9"


def test_policies_whose_budgets_are_others_have_no_common_axis():
    rules = [entry("h2o", budget, TASKS[0], 0.1) for budget in (17, 33)]
    namms = [entry("namm", budget, TASKS[0], 0.2) for budget in (12, 24)]
    assert curves(results(rules + namms)) == []
    # Who was given some of them alone has its places among them.
    some = [entry("oracle", budget, TASKS[0], 0.3) for budget in (24,)]
    more = [entry("h2o", budget, TASKS[0], 0.1) for budget in (12, 24, 48)]
    few = [entry("tova", budget, TASKS[0], 0.1) for budget in (24, 48)]
    [found] = curves(results(more + few + some))
    assert found.across[1] == ["12", "24", "48"]
    assert [one and one["budget"] for one in found.lines["tova"]] == [None, 24, 48]


def test_shares_are_said_as_such():
    [budget] = curves(results(summary(TASKS[:1], (0.25, 0.5))))
    assert budget.across == ("budget of a head", ["25%", "50%"])


def test_names_that_would_be_one_stay_two():
    own = [
        entry("h2o:budget=24:update_interval=64", 24, TASKS[0], 0.3),
        entry("h2o:budget=12", 12, TASKS[0], 0.1),
        entry("h2o", 12, TASKS[0], 0.2),
        entry("h2o", 24, TASKS[0], 0.4),
    ]
    [found] = curves(results(own))
    assert [one["mean"] for one in found.lines["h2o"]] == [0.2, 0.4]
    assert found.lines["h2o:update_interval=64"][1]["mean"] == 0.3
    assert found.lines["h2o:budget=12"][0]["mean"] == 0.1


def test_the_setting_that_differs_is_the_axis():
    tasks = ("tmaze:length=20,decoys=2", "tmaze:length=24,decoys=2")
    assert curves(results(summary(tasks, (24,))))[0].across == ("length", ["20", "24"])
    tasks = ("tmaze:length=20,decoys=2", "tmaze:length=24,decoys=3", "tmaze")
    words = ["length=20,decoys=2", "length=24,decoys=3", "default"]
    assert curves(results(summary(tasks, (24,))))[0].across == ("settings", words)


def test_where_there_is_nothing_to_compare_there_are_no_curves():
    assert curves(results(summary(TASKS[:1], (24,)))) == []
    assert curves(results(summary(), kind="language")) == []
    others = summary(metric="return")
    assert curves(results(others)) == []

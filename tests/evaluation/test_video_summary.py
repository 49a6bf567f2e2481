"""Summaries and tables of made-up rows, checked by hand."""

from itertools import product

import numpy as np
import pytest
from rich.console import Console

from transfer.evaluation.results import SUMMARY_FIELDS, Results
from transfer.evaluation.statistics import ClusterBootstrap, bootstrap, paired_difference
from transfer.evaluation.video_summary import MEANS, SECONDS, summarise
from transfer.evaluation.video_table import tables

READERS = (("full", None), ("h2o", 0.25), ("h2o", 8))


def answered(question, video, category, right, answer=1):
    """Rows of one question: for each reader, whether option and reply are right (None: unread)."""
    for (policy, budget), (likely, reply) in zip(READERS, right):
        yield {
            "model": "tiny", "task": "jsonl", "question": question, "policy": policy,
            "budget": budget, "answer": answer, "options": 4, "cluster": video,
            "category": category, "duration_group": "short",
            "correct_likelihood": None if answer is None else float(likely),
            "correct_reply": None if answer is None else float(bool(reply)),
            "said": None if reply is None else 1,
            "policy_seconds": 0.5, **dict.fromkeys(MEANS, 10.0), **dict.fromkeys(SECONDS, 2.0),
        }  # fmt: skip


@pytest.fixture
def rows():
    yes, no, unread = (1, 1), (0, 0), (1, None)
    return [
        *answered("q0", "a", "count", (yes, yes, no)),
        *answered("q1", "a", "count", (yes, no, unread)),
        *answered("q2", "b", "count", (yes, no, no)),
        *answered("q3", "c", "order", (no, yes, unread)),
        *answered("q4", "c", "order", (yes, yes, yes), answer=None),
        {"model": "tiny", "task": "jsonl", "question": "q5", "failed": "record q5: no video"},
    ]


def entry(summary, **wanted):
    [found] = [e for e in summary if all(e[name] == value for name, value in wanted.items())]
    return found


def test_accuracy_differences_and_counts_by_hand(rows):
    summary = summarise(rows, "micro", ("category",))
    assert len(summary) == 3 * 2 * (1 + 2)
    assert all(set(SUMMARY_FIELDS) <= set(each) for each in summary)
    full = entry(summary, policy="full", metric="likelihood", group_by="all")
    assert (full["n"], full["questions"], full["videos"], full["failed"]) == (4, 5, 3, 1)
    assert (full["mean"], full["delta_vs_full"], full["delta_low"]) == (0.75, 0.0, 0.0)
    pruned = entry(summary, budget=0.25, metric="likelihood", group_by="all")
    assert (pruned["mean"], pruned["delta_vs_full"]) == (0.5, -0.25)
    assert pruned["delta_low"] < -0.25 < pruned["delta_high"]
    unread = entry(summary, budget=8, metric="reply", group_by="all")
    assert (unread["mean"], unread["unparsed"]) == (0.0, 2)
    order = entry(summary, budget=0.25, metric="likelihood", group="order")
    # One video says nothing of the spread.
    assert (order["n"], order["mean"], order["low"]) == (1, 1.0, None)


def test_macro_is_the_mean_over_categories(rows):
    summary = summarise(rows, "macro", ())
    assert entry(summary, policy="full", metric="likelihood")["mean"] == (1 + 0) / 2
    pruned = entry(summary, budget=0.25, metric="likelihood")
    assert pruned["mean"] == pytest.approx((1 / 3 + 1) / 2)
    assert pruned["delta_vs_full"] == pytest.approx((1 / 3 + 1) / 2 - 0.5)


def test_costs_are_means_of_a_question_and_seconds_of_all(rows):
    found = entry(summarise(rows, "micro", ()), budget=8, metric="reply")
    assert found["cache_bytes"] == found["kept_video_tokens"] == 10.0
    assert found["kept"] == 1.0
    assert found["decode_seconds"] == 10.0 and found["seconds"] == 40.0
    assert found["chance"] == 0.25
    two = [{**row, "options": 2 if row.get("category") == "order" else 4} for row in rows]
    assert entry(summarise(two, "macro", ()), budget=8, metric="reply")["chance"] == 0.375
    assert entry(summarise(two, "micro", ()), budget=8, metric="reply")["chance"] == 0.35


def test_without_known_answers_there_are_costs_and_no_scores(rows):
    unknown = [row for row in rows if row["question"] == "q4"]
    [*summary] = summarise(unknown, "macro", ("category",))
    assert {(each["n"], each["mean"], each["delta_vs_full"]) for each in summary} == {
        (0, None, None)
    }
    assert "tiny on jsonl" in printed(summary, unknown)


def test_when_all_failed_the_reasons_are_what_is_left():
    rows = [
        {"model": "m", "task": "t", "question": str(n), "failed": f"record {n}: no"}
        for n in range(7)
    ]
    assert summarise(rows, "micro", ("category",)) == []
    text = printed([], rows)
    assert "in no mean: 7 of 7 questions" in text and "record 4: no" in text and "2 more" in text


def printed(summary, rows):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(tables(Results("", {}, [], summary, rows)))
    return capture.get()


def test_the_tables_say_it_all_in_a_hundred_columns(rows):
    text = printed(summarise(rows, "macro", ("category",)), rows)
    assert max(map(len, text.splitlines())) <= 100
    assert [line.split()[:2] for line in text.splitlines()].count(["h2o", "25%"]) == 3
    for part in ("mean of 2 categories", "chance 25.0%", "order (1)", "peak KB", "2000.0"):
        assert part in text, part
    assert "in no mean: 1 of 6 questions" in text and "record q5: no video" in text
    assert "Decoding took 10.0 s and the vision tower 10.0 s" in text


def test_categories_without_an_answered_question_are_counted_and_named(rows):
    lost = {"model": "tiny", "task": "jsonl", "failed": "record: no video"}
    rows = [
        *rows[:-1],
        {**lost, "question": "q5", "category": "count"},
        {**lost, "question": "q6", "category": "count"},
        {**lost, "question": "q7", "category": "speed"},
    ]
    summary = summarise(rows, "macro", ("category",))
    whole = entry(summary, policy="full", metric="reply", group_by="all")
    assert (whole["scored_categories"], whole["categories"], whole["failed"]) == (2, 3, 3)
    failed = {each["group"]: each["failed"] for each in summary if each["group"]}
    assert failed == {"count": 2, "order": 0}
    text = printed(summary, rows)
    # The title is broken where the table ends.
    assert "mean of 2 of 3 categories" in " ".join(text.split())
    assert "count (3, 2 failed)" in text and "order (1)" in text


def test_groups_are_in_order_of_length_or_of_appearance(rows):
    lengths = {"q0": "3600", "q1": "15", "q2": "600", "q3": "600", "q4": "15"}
    rows = [{**row, "duration_group": lengths[row["question"]]} for row in rows[:-1]]
    summary = summarise(rows, "micro", ("duration_group", "category"))
    groups = list(dict.fromkeys(each["group"] for each in summary))
    assert groups == ["", "15", "600", "3600", "count", "order"]
    assert "by duration group" in printed(summary, rows)
    nameless = summarise([{**row, "category": ""} for row in rows], "micro", ("category",))
    assert {each["group_by"] for each in nameless} == {"all"}


def test_many_groups_are_spread_over_several_tables(rows):
    more = [{**row, "category": f"a kind of question {n}"} for n in range(12) for row in rows[:9]]
    for number, row in enumerate(more):
        row["question"] = f"{number // 3}"
    text = printed(summarise(more, "micro", ("category",)), more)
    assert text.count("by category") >= 3
    assert all(f"a kind of question {n} (3)" in text for n in range(12))
    assert max(map(len, text.splitlines())) <= 100


def test_draws_shared_by_many_columns_give_the_intervals_of_each():
    generator = np.random.default_rng(3)
    values = generator.random((400, 3))
    clusters = [f"video {n}" for n in generator.integers(0, 60, 400)]
    draws = ClusterBootstrap(clusters)
    [everything] = [np.ones(400, dtype=bool)]
    for column, found in enumerate(draws.intervals(values, [everything])):
        alone = bootstrap(values[:, column], clusters)
        assert found.mean == pytest.approx(alone.mean)
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=2e-3)
    deltas = draws.intervals(values - values[:, [0]], [everything])
    assert (deltas[0].low, deltas[0].high) == (0.0, 0.0)
    paired = paired_difference(values[:, 1], values[:, 0], clusters)
    assert (deltas[1].low, deltas[1].high) == pytest.approx((paired.low, paired.high), abs=4e-3)


def test_groups_are_averaged_draw_by_draw():
    values = np.array([[1.0], [0.0], [0.0], [1.0]])
    first, second = np.array([1, 1, 1, 0], bool), np.array([0, 0, 0, 1], bool)
    drawn = ClusterBootstrap(range(4), resamples=4000)
    [found] = drawn.intervals(values, [first, second])
    assert found.mean == pytest.approx((1 / 3 + 1) / 2)
    expected = [
        np.mean([np.mean(part) for part in (picked[picked < 3] == 0, picked[picked == 3] == 3)
                 if len(part)])
        for picked in map(np.array, product(range(4), repeat=4))
    ]  # fmt: skip
    bounds = np.quantile(expected, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(bounds), abs=0.02)


def test_draws_that_miss_a_group_are_left_out():
    values, inside = np.arange(50.0)[:, None], np.arange(50) < 2
    [found] = ClusterBootstrap(range(50)).intervals(values, [inside])
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_a_group_without_values_is_refused():
    with pytest.raises(ValueError, match="without values"):
        ClusterBootstrap([0, 1]).intervals(np.ones((2, 1)), [np.zeros(2, dtype=bool)])

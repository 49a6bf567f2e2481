"""Summaries and tables of made-up rows, checked by hand."""

import random
from dataclasses import replace

import numpy as np
import pytest
from evaluated import printed
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.evaluation.benchmark import ROW_FIELDS, Benchmark
from transfer.evaluation.statistics import bootstrap, paired_difference
from transfer.evaluation.store import SUMMARY_FIELDS, Results
from transfer.evaluation.summary import ALL, summarise
from transfer.evaluation.tables import protected_words, shared_words
from transfer.evaluation.video_benchmark import VideoBenchmark
from transfer.tasks.video import VIDEO_TASKS

READERS = (("full", None), ("h2o", 0.25), ("h2o", 8))


class Asked(VideoBenchmark):
    """What of a video benchmark says how its rows are averaged, without a model."""

    def __init__(self, aggregation="micro", groups=()):
        self.task = replace(VIDEO_TASKS["jsonl"], aggregation=aggregation)
        self.average_by = "category" if aggregation == "macro" else None
        self.groups = groups


class Plain(Benchmark):
    """A benchmark of one metric, of which nothing is asked here."""

    contenders = blocks = rows = digest = None
    metrics, bases, keys, groups = ("points",), ("full", "window"), ("target",), ()
    average_by, means, sums = None, (), ()

    def about(self, rows, failed):
        return {"asked": len(rows) + len(failed)}


def row(item, policy, budget=None, failure=None, **more):
    return {
        **dict.fromkeys(ROW_FIELDS), "model": "tiny", "task": "jsonl", "item": item,
        "cluster": item, "policy": policy, "budget": budget, "failure": failure, **more,
    }  # fmt: skip


def answered(question, video, category, right, answer=1):
    """Rows of one question: for each reader, whether option and reply are right (None: unread)."""
    for (policy, budget), (likely, reply) in zip(READERS, right):
        yield row(
            question, policy, budget, cluster=video, category=category, duration_group="short",
            answer=answer, options=4, said=None if reply is None else 1,
            correct_likelihood=None if answer is None else float(likely),
            correct_reply=None if answer is None else float(bool(reply)),
            **dict.fromkeys(("policy_seconds", "seconds"), 0.5),
            **dict.fromkeys(("tokens", "kept_tokens", "cache_bytes", "peak_bytes"), 10.0),
            **dict.fromkeys(("full_bytes", "kept", *VideoBenchmark.means), 10.0),
            **dict.fromkeys(VideoBenchmark.sums, 2.0),
        )  # fmt: skip


def lost(question, **about):
    """Rows of a question that could not be asked."""
    scores = dict.fromkeys(VideoBenchmark.metrics)
    return [
        row(question, *reader, f"record {question}: no video", **about, **scores)
        for reader in READERS
    ]


@pytest.fixture
def rows():
    yes, no, unread = (1, 1), (0, 0), (1, None)
    return [
        *answered("q0", "a", "count", (yes, yes, no)),
        *answered("q1", "a", "count", (yes, no, unread)),
        *answered("q2", "b", "count", (yes, no, no)),
        *answered("q3", "c", "order", (no, yes, unread)),
        *answered("q4", "c", "order", (yes, yes, yes), answer=None),
        *lost("q5"),
    ]


def entry(summary, **wanted):
    [found] = [e for e in summary if all(e[name] == value for name, value in wanted.items())]
    return found


def shown(summary, rows):
    metrics = VideoBenchmark.metrics
    return printed(Results("video", "", {}, metrics, (), summary, rows))


def test_accuracy_differences_and_counts_by_hand(rows):
    summary = summarise(rows, Asked(groups=("category",)))
    assert len(summary) == 3 * 2 * (1 + 2)
    assert all(set(SUMMARY_FIELDS) <= set(each) for each in summary)
    full = entry(summary, policy="full", metric="correct_likelihood", group_by="all")
    assert (full["n"], full["questions"], full["videos"], full["failed"]) == (4, 5, 3, 1)
    assert (full["mean"], full["delta_vs_full"], full["delta_low"]) == (0.75, 0.0, 0.0)
    assert full["std"] == pytest.approx(np.std([1, 1, 1, 0]))
    pruned = entry(summary, budget=0.25, metric="correct_likelihood", group_by="all")
    assert (pruned["mean"], pruned["delta_vs_full"]) == (0.5, -0.25)
    assert pruned["delta_low"] < -0.25 < pruned["delta_high"]
    unread = entry(summary, budget=8, metric="correct_reply", group_by="all")
    assert (unread["mean"], unread["unparsed"]) == (0.0, 2)
    order = entry(summary, budget=0.25, metric="correct_likelihood", group="order")
    # One video says nothing of the spread.
    assert (order["n"], order["mean"], order["low"]) == (1, 1.0, None)


def test_intervals_are_those_of_the_clusters(rows):
    pruned = entry(summarise(rows, Asked()), budget=0.25, metric="correct_likelihood")
    ours, base, videos = [1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0], ["a", "a", "b", "c"]
    interval = bootstrap(ours, videos)
    assert [pruned[name] for name in ("mean", "low", "high")] == [
        interval.mean, interval.low, interval.high,
    ]  # fmt: skip
    delta = paired_difference(ours, base, videos)
    assert [pruned[name] for name in ("delta_vs_full", "delta_low", "delta_high")] == [
        delta.mean, delta.low, delta.high,
    ]  # fmt: skip


def test_macro_is_the_mean_over_categories(rows):
    summary = summarise(rows, Asked("macro"))
    assert entry(summary, policy="full", metric="correct_likelihood")["mean"] == (1 + 0) / 2
    pruned = entry(summary, budget=0.25, metric="correct_likelihood")
    assert pruned["mean"] == pytest.approx((1 / 3 + 1) / 2)
    assert pruned["delta_vs_full"] == pytest.approx((1 / 3 + 1) / 2 - 0.5)


def test_costs_are_means_of_a_question_and_seconds_of_all(rows):
    found = entry(summarise(rows, Asked()), budget=8, metric="correct_reply")
    assert found["cache_bytes"] == found["peak_bytes"] == found["kept_video_tokens"] == 10.0
    assert found["decode_seconds"] == 10.0 and found["seconds"] == found["policy_seconds"] == 2.5
    assert found["chance"] == 0.25
    two = [{**one, "options": 2 if one.get("category") == "order" else 4} for one in rows]
    assert (
        entry(summarise(two, Asked("macro")), budget=8, metric="correct_reply")["chance"] == 0.375
    )
    assert entry(summarise(two, Asked()), budget=8, metric="correct_reply")["chance"] == 0.35


def test_what_only_some_rows_say_is_their_mean_and_what_none_says_is_none():
    rows = [row(n, "full", points=1.0, target=1, kept_age=None) for n in range(3)]
    rows[0]["peak_bytes"], rows[1]["peak_bytes"] = 10, 30
    [found] = summarise(rows, Plain())
    assert (found["peak_bytes"], found["cache_bytes"], found["seconds"]) == (20.0, None, 0.0)


def test_without_known_answers_there_are_costs_and_no_scores(rows):
    unknown = [one for one in rows if one["item"] == "q4"]
    summary = summarise(unknown, Asked("macro", ("category",)))
    assert {(each["n"], each["mean"], each["delta_vs_full"]) for each in summary} == {
        (0, None, None)
    }
    assert "tiny on jsonl" in shown(summary, unknown)


def test_when_all_failed_the_reasons_are_what_is_left():
    rows = [one for number in range(7) for one in lost(str(number))]
    assert summarise(rows, Asked(groups=("category",))) == []
    text = shown([], rows)
    assert "in no mean: 21 of 21 rows" in text and "record 4: no" in text and "2 more" in text


def test_a_pair_is_compared_over_the_items_that_both_have():
    scores = {"full": {0: 1.0, 1: 2.0, 2: None, 3: 9.0}, "h2o": {1: 5.0, 2: 7.0, 3: None, 4: 100.0}}
    rows = [
        row(item, policy, failure=None if points else "lost", points=points, target=1)
        for policy, own in scores.items()
        for item, points in own.items()
    ]
    full, pruned = summarise(rows, Plain())
    assert (full["n"], full["failed"], full["mean"]) == (3, 1, 4.0)
    assert (pruned["n"], pruned["failed"], pruned["asked"]) == (3, 1, 4)
    # Item 1 alone, which says nothing of the spread.
    assert (pruned["delta_vs_full"], pruned["delta_low"]) == (3.0, None)
    assert pruned["delta_vs_window"] is full["delta_vs_window"] is None


def test_without_a_common_item_there_is_no_difference():
    rows = [row(0, "full", points=1.0, target=1), row(1, "h2o", points=1.0, target=1)]
    assert summarise(rows, Plain())[1]["delta_vs_full"] is None


def test_values_of_a_key_are_never_compared_with_each_other():
    rows = [
        row(item, policy, points=target * points, target=target)
        for target in (1, 10)
        for policy, points in (("full", 2.0), ("h2o", 1.0))
        for item in range(3)
    ]
    found = summarise(rows, Plain())
    assert [(e["target"], e["policy"], e["n"], e["delta_vs_full"]) for e in found] == [
        (1, "full", 3, 0.0), (1, "h2o", 3, -1.0), (10, "full", 3, 0.0), (10, "h2o", 3, -10.0),
    ]  # fmt: skip


#: What each contender scored on each item; None: it failed there.
MADE = st.dictionaries(
    st.sampled_from(["full", "window", "h2o", "tova"]),
    st.lists(st.none() | st.floats(-100, 100), min_size=6, max_size=6),
    min_size=2,
)


def made_rows(scores):
    return [
        row(
            item,
            policy,
            points=points,
            target=item % 2,
            cluster=item // 2,
            failure="lost" if points is None else None,
            kept_tokens=item,
            tokens=10,
        )
        for policy, own in scores.items()
        for item, points in enumerate(own)
    ]


def by_contender(summary):
    return {(each["target"], each["policy"]): each for each in summary}


@settings(max_examples=40)
@given(MADE, st.randoms(use_true_random=False))
def test_where_rows_stand_says_nothing(scores, shuffling: random.Random):
    rows = made_rows(scores)
    before = by_contender(summarise(rows, Plain()))
    # As contenders' rows come from several processes, each contender's own in order.
    queues = {policy: [one for one in rows if one["policy"] == policy] for policy in scores}
    mixed = [queues[policy].pop(0) for policy in shuffling.sample([*scores] * 6, len(rows))]
    assert by_contender(summarise(mixed, Plain())) == before
    # In any order at all the draws of the bootstrap are dealt to other clusters.
    drawn = ("low", "high", "delta_low", "delta_high", "delta_window_low", "delta_window_high")
    shuffled = by_contender(summarise(shuffling.sample(rows, len(rows)), Plain()))
    assert shuffled.keys() == before.keys()
    for key, found in shuffled.items():
        for name in found.keys() - set(drawn):
            assert found[name] == pytest.approx(before[key][name], abs=1e-9), name


@settings(max_examples=40)
@given(MADE)
def test_failed_items_are_counted_and_in_no_mean_and_pairs_are_common(scores):
    for (target, policy), found in by_contender(summarise(made_rows(scores), Plain())).items():
        own = {i: score for i, score in enumerate(scores[policy]) if i % 2 == target}
        whole = {item: score for item, score in own.items() if score is not None}
        assert (found["n"], found["failed"]) == (len(whole), len(own) - len(whole))
        assert found["mean"] == pytest.approx(np.mean(list(whole.values())))
        for base in ("full", "window"):
            theirs = scores.get(base, [None] * 6)
            pairs = [score - theirs[i] for i, score in whole.items() if theirs[i] is not None]
            if pairs:
                assert found[f"delta_vs_{base}"] == pytest.approx(np.mean(pairs), abs=1e-9)
            else:
                assert found[f"delta_vs_{base}"] is None


def test_the_tables_say_it_all_in_a_hundred_columns(rows):
    text = shown(summarise(rows, Asked("macro", ("category",))), rows)
    assert max(map(len, text.splitlines())) <= 100
    assert [line.split()[:2] for line in text.splitlines()].count(["h2o", "25%"]) == 4
    for part in ("mean of 2 categories", "chance 25.0%", "order (1)", "peak KB", "2000.0"):
        assert part in text, part
    assert "in no mean: 3 of 18 rows" in text and "q5: record q5: no video" in text
    assert "Decoding took 10.0 s and the vision tower 10.0 s" in text


def test_a_line_says_whose_tokens_are_protected():
    def entry(policy, keep_recent, sinks):
        return {"policy": policy, "keep_recent": keep_recent, "sinks": sinks}

    entries = [entry("full", None, None), entry("h2o", 8, 2), entry("h2o", 8, 2)]
    entries += [entry("namm", 8, 2), entry("tova:sinks=0", 8, 0), entry("fifo", 0, 0)]
    assert protected_words(entries) == (
        "Protected tokens of a head: the 8 newest and the 2 first of h2o, namm; the 8 newest of "
        "tova:sinks=0"
    )
    assert protected_words([entries[0], entries[-1], {"policy": "of an earlier version"}]) is None


def test_a_line_says_whose_heads_share():
    shares = {"full": None, "h2o": "head", "namm": "layer", "tova:threshold=0.1": "model"}
    entries = [{"policy": policy, "share": share} for policy, share in shares.items()] * 2
    assert shared_words(entries) == "Budgets shared by the heads of a layer: namm"
    assert shared_words([*entries[:2], {"policy": "of an earlier version"}]) is None


def test_categories_without_an_answered_question_are_counted_and_named(rows):
    rows = [
        *rows[:-3],
        *lost("q5", category="count"),
        *lost("q6", category="count"),
        *lost("q7", category="speed"),
    ]
    summary = summarise(rows, Asked("macro", ("category",)))
    whole = entry(summary, policy="full", metric="correct_reply", group_by="all")
    assert (whole["scored_categories"], whole["categories"], whole["failed"]) == (2, 3, 3)
    failed = {each["group"]: each["failed"] for each in summary if each["group"]}
    assert failed == {"count": 2, "order": 0}
    text = shown(summary, rows)
    # The title is broken where the table ends.
    assert "mean of 2 of 3 categories" in " ".join(text.split())
    assert "count (3, 2 failed)" in text and "order (1)" in text


def test_groups_are_in_order_of_length_or_of_appearance(rows):
    lengths = {"q0": "3600", "q1": "15", "q2": "600", "q3": "600", "q4": "15"}
    rows = [{**one, "duration_group": lengths[one["item"]]} for one in rows[:-3]]
    summary = summarise(rows, Asked(groups=("duration_group", "category")))
    groups = list(dict.fromkeys(each["group"] for each in summary))
    assert groups == ["", "15", "600", "3600", "count", "order"]
    assert "by duration group" in shown(summary, rows)
    nameless = summarise([{**one, "category": ""} for one in rows], Asked(groups=("category",)))
    assert {each["group_by"] for each in nameless} == {ALL}


def test_many_groups_are_spread_over_several_tables(rows):
    more = [{**one, "category": f"a kind of question {n}"} for n in range(12) for one in rows[:9]]
    for number, one in enumerate(more):
        one["item"] = f"{number // 3}"
    text = shown(summarise(more, Asked(groups=("category",))), more)
    assert text.count("by category") >= 3
    assert all(f"a kind of question {n} (3)" in text for n in range(12))
    assert max(map(len, text.splitlines())) <= 100

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.evaluation import statistics
from transfer.evaluation.statistics import (
    Change,
    bootstrap,
    interquartile_mean,
    paired_difference,
)

numbers = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40)


def test_mean_and_std_by_hand():
    assert statistics.grouped_mean([1, 2, 3, 6]) == 3.0
    assert statistics.grouped_mean([1, 2, 3, 6], ["a", "b", "b", "b"]) == (1 + 11 / 3) / 2
    assert statistics.std([1, 2, 3, 6]) == pytest.approx(np.sqrt((4 + 1 + 0 + 9) / 4))
    assert statistics.std([5.0]) == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7], 7),
        ([1, 2, 9], 4),
        ([100, 2, 3, -50], 2.5),
        ([0, 1, 2, 3, 4, 5, 6, 1000], 3.5),
        ([10, 0, 4, 2, 3], 3),
    ],
)
def test_interquartile_mean_by_hand(values, expected):
    assert interquartile_mean(values) == pytest.approx(expected)


@given(numbers, st.randoms())
def test_interquartile_mean_ignores_order_and_stays_inside(values, random):
    shuffled = random.sample(values, len(values))
    assert interquartile_mean(shuffled) == interquartile_mean(values)
    assert min(values) - 1e-6 <= interquartile_mean(values) <= max(values) + 1e-6


@given(st.lists(st.floats(-100, 100), min_size=8, max_size=40), st.floats(1e6, 1e9))
def test_interquartile_mean_is_deaf_to_one_outlier(values, outlier):
    ordered = sorted(values)
    assert interquartile_mean([*ordered[:-1], outlier]) == pytest.approx(
        interquartile_mean(ordered), abs=1e-9
    )


def test_bootstrap_equals_a_loop_over_the_same_draws():
    values = np.array([3.0, -1.0, 4.0, 1.0, -5.0, 9.0])
    drawn = np.random.default_rng(7).integers(6, size=(200, 6))
    means = [np.mean([values[i] for i in row]) for row in drawn]
    found = bootstrap(values, resamples=200, seed=7)
    assert found.mean == pytest.approx(11 / 6)
    assert found.low == pytest.approx(np.quantile(means, 0.025))
    assert found.high == pytest.approx(np.quantile(means, 0.975))


def test_chunked_draws_are_the_same_draws(monkeypatch):
    values = np.arange(11.0)
    whole = bootstrap(values, resamples=500)
    monkeypatch.setattr(statistics, "_CHUNK", 23)
    statistics.draws.cache_clear()
    assert bootstrap(values, resamples=500) == whole


def test_interval_of_a_normal_sample_is_two_standard_errors():
    values = np.random.default_rng(0).normal(10.0, 2.0, size=400)
    found = bootstrap(values)
    error = values.std() / np.sqrt(400)
    assert found.high is not None and found.low is not None
    assert found.high - found.mean == pytest.approx(1.96 * error, rel=0.06)
    assert found.mean - found.low == pytest.approx(1.96 * error, rel=0.06)


def test_coverage_is_about_95_percent():
    generator = np.random.default_rng(1)
    hits = 0
    for trial in range(300):
        found = bootstrap(generator.normal(size=60), resamples=800, seed=trial)
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.0 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_clusters_widen_the_interval_as_if_each_were_one_value():
    generator = np.random.default_rng(2)
    centres = generator.normal(size=30)
    values = np.repeat(centres, 10)
    clusters = [f"document {i // 10}" for i in range(300)]
    clustered = bootstrap(values, clusters)
    alone = bootstrap(centres)
    assert clustered.mean == pytest.approx(alone.mean)
    assert clustered.low == pytest.approx(alone.low)
    assert clustered.high == pytest.approx(alone.high)
    naive = bootstrap(values)
    assert (clustered.high - clustered.low) > 2.5 * (naive.high - naive.low)


def test_unequal_clusters_weigh_by_their_size():
    found = bootstrap([0.0, 0.0, 0.0, 4.0], clusters=["a", "a", "a", "b"])
    assert found.mean == 1.0
    assert (found.low, found.high) == (0.0, 4.0)


def test_the_mean_of_groups_is_drawn_by_clusters_that_span_them():
    """Two categories, three videos that each have questions of some: by a loop over the draws."""
    values = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    videos, kinds = np.array([0, 0, 1, 2, 2]), np.array(["a", "b", "a", "b", "b"])
    means = []
    for row in np.random.default_rng(3).integers(3, size=(400, 3)):
        weights = np.bincount(row, minlength=3)[videos]
        here = [kind for kind in ("a", "b") if weights[kinds == kind].sum()]
        means.append(
            np.mean([np.average(values[kinds == k], weights=weights[kinds == k]) for k in here])
        )
    found = bootstrap(values, videos.tolist(), kinds.tolist(), seed=3, resamples=400)
    assert found.mean == pytest.approx((1 + 1 / 3) / 2)
    assert found.low == pytest.approx(np.quantile(means, 0.025))
    assert found.high == pytest.approx(np.quantile(means, 0.975))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 4)), min_size=1, max_size=12))
def test_a_weight_is_as_many_values_of_one_cluster(pairs):
    values, weights = zip(*pairs)
    again = [(value, place) for place, (value, weight) in enumerate(pairs) for _ in range(weight)]
    repeated, clusters = zip(*again)
    ours = bootstrap(values, resamples=300, weights=weights)
    theirs = bootstrap(repeated, clusters, resamples=300)
    assert (ours.mean, ours.low, ours.high) == pytest.approx(
        (theirs.mean, theirs.low, theirs.high), abs=1e-9
    )


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [2.0, -1.0]])
def test_weights_that_weigh_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="2 values need as many weights above 0"):
        bootstrap([1.0, 2.0], weights=weights)


def test_one_cluster_has_no_interval():
    assert bootstrap([2.0]) == statistics.Interval(2.0, None, None)
    assert bootstrap([1.0, 3.0], clusters=["v", "v"]) == statistics.Interval(2.0, None, None)


@settings(max_examples=40)
@given(numbers, st.floats(-1e3, 1e3))
def test_shifting_values_shifts_the_interval(values, shift):
    before = bootstrap(values, resamples=300)
    after = bootstrap([value + shift for value in values], resamples=300)
    for a, b in ((before.mean, after.mean), (before.low, after.low), (before.high, after.high)):
        assert b == pytest.approx(a + shift, rel=1e-6, abs=1e-6)
    assert after.low <= after.high


def test_paired_difference_cancels_what_pairs_share():
    base = np.random.default_rng(3).normal(0, 1000, size=50)
    found = paired_difference(base + 1.0, base)
    assert found.mean == pytest.approx(1.0)
    assert found.low == pytest.approx(1.0)
    assert found.high == pytest.approx(1.0)
    mirrored = paired_difference(base, base + 1.0)
    assert mirrored.mean == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("values", "clusters", "sentence"),
    [
        ([], None, "non-empty"),
        ([1.0, float("nan")], None, "finite"),
        ([1.0, 2.0], ["a"], "as many ids"),
    ],
)
def test_bad_values_are_refused(values, clusters, sentence):
    with pytest.raises(ValueError, match=sentence):
        bootstrap(values, clusters)


def test_pairs_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="equal lengths"):
        paired_difference([1.0, 2.0], [1.0])


def test_draws_in_which_the_base_has_nothing_say_nothing():
    change = Change.of([0.5, 0.0], [1.0, 0.0])
    assert change.mean == -0.5
    assert np.isnan(change.draws).any() and change.interval.low == change.interval.high == -0.5
    both = Change.average([change, Change.of([1.0, 2.0], [1.0, 1.0])])
    assert np.isfinite(both.draws).all()
    assert both.mean == 0.0 and both.interval.low < 0 < both.interval.high

"""The few statistics every evaluation reports: means, intervals, paired differences and changes.

Intervals are percentile bootstraps that resample clusters (documents, videos, episodes), because
questions about one document are not independent. Everything is seeded: same data, same digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

RESAMPLES = 10_000
LEVEL = 0.95
# Resampled cluster indices held at once; bounds memory for thousands of clusters.
_CHUNK = 1 << 21

Values = Sequence[float | int] | Float[np.ndarray, " n"]
Ids = Sequence[object]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% bounds; the bounds are None where one cluster says nothing of spread."""

    mean: float
    low: float | None
    high: float | None


def std(values: Values) -> float:
    """Standard deviation over the values with ddof=0, as published return tables print it."""
    return float(_checked(values).std(ddof=0))


def interquartile_mean(values: Values) -> float:
    """Mean after cutting floor(n/4) values from either end (Agarwal et al. 2021, section 4.3)."""
    ordered = np.sort(_checked(values))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def grouped_mean(values: Values, groups: Ids | None = None, weights: Values | None = None) -> float:
    """The mean over groups of their (weighted) means; without groups the plain mean."""
    checked = _checked(values)
    weighed = _weights(weights, len(checked))
    masks = _masks(groups, len(checked))
    return float(np.mean([np.average(checked[each], weights=weighed[each]) for each in masks]))


def bootstrap(
    values: Values,
    clusters: Ids | None = None,
    groups: Ids | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    weights: Values | None = None,
) -> Interval:
    """`grouped_mean` of `values` with its 95% percentile bootstrap interval.

    Args:
        values: `[n]` numbers, none of them NaN.
        clusters: `[n]` ids; values with equal ids are drawn together. By default each is alone.
        groups: `[n]` ids; a group that a draw misses does not count in that draw.
        seed: of the draws.
        resamples: how many there are.
        weights: `[n]` positive numbers; by default all values weigh the same.

    Raises:
        ValueError: no values, a value that is not finite, or as many ids or weights as values
            are missing.
    """
    checked = _checked(values)
    weighed = _weights(weights, len(checked))
    mean, index = grouped_mean(checked, groups, weighed), _indices(clusters, len(checked))
    if index.max() == 0:
        return Interval(mean, None, None)
    drawn = draws(int(index.max()) + 1, seed, resamples)
    total, present = np.zeros(len(drawn)), np.zeros(len(drawn))
    for group in _masks(groups, len(checked)):
        sums, weight = _drawn_sums(drawn, index[group], checked[group], weighed[group])
        hit = weight > 0
        total += np.where(hit, sums / np.where(hit, weight, 1), 0)
        present += hit
    return _interval(mean, total[present > 0] / present[present > 0])


def paired_difference(
    values: Values,
    base: Values,
    clusters: Ids | None = None,
    groups: Ids | None = None,
    seed: int = 0,
    weights: Values | None = None,
) -> Interval:
    """Mean of `values - base`, pair by pair, with its bootstrap interval over pairs.

    Raises:
        ValueError: as `bootstrap`, or the two lists differ in length.
    """
    ours, theirs = _pairs(values, base)
    return bootstrap(ours - theirs, clusters, groups, seed, weights=weights)


@dataclass(frozen=True)
class Change:
    """By how much a mean differs from a base's, as a share of the base's, with bootstrap draws."""

    mean: float
    draws: Float[np.ndarray, " resamples"]

    @classmethod
    def of(
        cls, values: Values, base: Values, clusters: Ids | None = None, seed: int = 0
    ) -> "Change":
        """`mean(values) / mean(base) - 1`; the draws are of pairs, clustered as in `bootstrap`.

        Raises:
            ValueError: as `paired_difference`, or the base's mean is not above 0.
        """
        ours, theirs = _pairs(values, base)
        if theirs.mean() <= 0:
            raise ValueError(f"a change against a mean of {theirs.mean():g} says nothing")
        index = _indices(clusters, len(ours))
        drawn = draws(int(index.max()) + 1, seed)
        alike = _weights(None, len(ours))
        sums, base_sums = (_drawn_sums(drawn, index, each, alike)[0] for each in (ours, theirs))
        # A draw in which the base has nothing says nothing.
        ratios = np.full(len(sums), np.nan)
        np.divide(sums, base_sums, out=ratios, where=base_sums > 0)
        return cls(float(ours.mean() / theirs.mean() - 1), ratios - 1)

    @classmethod
    def average(cls, changes: "Sequence[Change]") -> "Change":
        """The mean over tasks, whose draws are independent of each other."""
        drawn = np.stack([change.draws for change in changes])
        said = np.isfinite(drawn)
        total = np.where(said, drawn, 0).sum(0)
        means = np.full(drawn.shape[1], np.nan)
        np.divide(total, said.sum(0), out=means, where=said.any(0))
        return cls(float(np.mean([change.mean for change in changes])), means)

    @property
    def interval(self) -> Interval:
        """The mean with its 95% bounds."""
        said = self.draws[np.isfinite(self.draws)]
        if np.ptp(said) == 0:
            return Interval(self.mean, self.mean, self.mean)
        return _interval(self.mean, said)


@lru_cache(maxsize=4)
def draws(count: int, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.uint16]:
    """How often each of `count` clusters is drawn, `[resamples, count]`.

    Drawn with replacement; of thousands of clusters one is never drawn more than 65535 times.
    """
    generator, found = np.random.default_rng(seed), np.zeros((resamples, count), np.uint16)
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        rows = found[start : start + step]
        chosen = generator.integers(count, size=rows.shape) + count * np.arange(len(rows))[:, None]
        rows[:] = np.bincount(chosen.ravel(), minlength=rows.size).reshape(rows.shape)
    found.setflags(write=False)
    return found


def _drawn_sums(
    drawn: NDArray[np.uint16],
    index: NDArray[np.intp],
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> tuple[Float[np.ndarray, " resamples"], Float[np.ndarray, " resamples"]]:
    """Weighted sum of the values that are drawn with their clusters, and what they weigh."""
    clusters = drawn.shape[1]
    of_each = (np.bincount(index, each, clusters) for each in (values * weights, weights))
    columns = np.stack(list(of_each), 1)
    step = max(1, _CHUNK // clusters)
    parts = [drawn[start : start + step] @ columns for start in range(0, len(drawn), step)]
    found = np.concatenate(parts)
    return found[:, 0], found[:, 1]


def _interval(mean: float, drawn: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high))


def _checked(values: Values) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"expected a non-empty list of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite")
    return array


def _weights(weights: Values | None, count: int) -> NDArray[np.float64]:
    """All 1 if nothing is said."""
    if weights is None:
        return np.ones(count)
    checked = _checked(weights)
    if len(checked) != count or checked.min() <= 0:
        raise ValueError(f"{count} values need as many weights above 0")
    return checked


def _pairs(values: Values, base: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ours, theirs = _checked(values), _checked(base)
    if len(ours) != len(theirs):
        raise ValueError(f"pairs need equal lengths, got {len(ours)} and {len(theirs)}")
    return ours, theirs


def _indices(ids: Ids | None, count: int) -> NDArray[np.intp]:
    """Number of each value's id, by appearance, so that renaming ids changes nothing."""
    if ids is None:
        return np.arange(count)
    if len(ids) != count:
        raise ValueError(f"{count} values need as many ids, got {len(ids)}")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(ids))}
    return np.array([numbers[name] for name in ids])


def _masks(groups: Ids | None, count: int) -> list[NDArray[np.bool_]]:
    index = np.zeros(count, np.intp) if groups is None else _indices(groups, count)
    return [index == number for number in range(int(index.max()) + 1)]

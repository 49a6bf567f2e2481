"""The few statistics every runner reports: means, intervals, paired differences.

Intervals are percentile bootstraps that resample clusters (documents, videos, episodes), because
questions about one document are not independent. Everything is seeded: same data, same digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

RESAMPLES = 10_000
LEVEL = 0.95
# Resampled cluster indices held at once; bounds memory for thousands of clusters.
_CHUNK = 1 << 21

Values = Sequence[float | int] | Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% bounds; the bounds are None where one cluster says nothing of spread."""

    mean: float
    low: float | None
    high: float | None


def mean(values: Values) -> float:
    """Arithmetic mean of a non-empty list of numbers."""
    return float(_checked(values).mean())


def std(values: Values) -> float:
    """Standard deviation over the values with ddof=0, as published return tables print it."""
    return float(_checked(values).std(ddof=0))


def interquartile_mean(values: Values) -> float:
    """Mean after cutting floor(n/4) values from either end (Agarwal et al. 2021, section 4.3)."""
    ordered = np.sort(_checked(values))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def bootstrap(
    values: Values,
    clusters: Sequence[object] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of `values` with its 95% percentile bootstrap interval.

    Args:
        values: `[n]` numbers, none of them NaN.
        clusters: `[n]` ids; values with equal ids are drawn together. By default each is alone.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        ValueError: no values, a value that is not finite, or as many ids as values are missing.
    """
    checked = _checked(values)
    sums, counts = _cluster_sums(checked, clusters)
    if len(sums) == 1:
        return Interval(float(checked.mean()), None, None)
    means = _resampled_means(sums, counts, resamples, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(checked.mean()), float(low), float(high))


def paired_difference(
    values: Values,
    base: Values,
    clusters: Sequence[object] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of `values - base`, pair by pair, with its bootstrap interval over pairs.

    Raises:
        ValueError: as `bootstrap`, or the two lists differ in length.
    """
    ours, theirs = _checked(values), _checked(base)
    if len(ours) != len(theirs):
        raise ValueError(f"pairs need equal lengths, got {len(ours)} and {len(theirs)}")
    return bootstrap(ours - theirs, clusters, resamples, seed)


@dataclass(frozen=True)
class Change:
    """By how much a mean differs from a base's, as a share of the base's, with bootstrap draws."""

    mean: float
    draws: Float[np.ndarray, " resamples"]

    @classmethod
    def of(
        cls,
        values: Values,
        base: Values,
        clusters: Sequence[object] | None = None,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> "Change":
        """`mean(values) / mean(base) - 1`; the draws are of pairs, clustered as in `bootstrap`.

        Raises:
            ValueError: as `paired_difference`, or the base's mean is not above 0.
        """
        ours, theirs = _checked(values), _checked(base)
        if len(ours) != len(theirs):
            raise ValueError(f"pairs need equal lengths, got {len(ours)} and {len(theirs)}")
        if theirs.mean() <= 0:
            raise ValueError(f"a change against a mean of {theirs.mean():g} says nothing")
        sums, base_sums = (_cluster_sums(each, clusters)[0] for each in (ours, theirs))
        ratios = _resampled_means(sums, base_sums, resamples, seed)
        return cls(float(ours.mean() / theirs.mean() - 1), ratios - 1)

    @classmethod
    def average(cls, changes: "Sequence[Change]") -> "Change":
        """The mean over tasks, whose draws are independent of each other."""
        return cls(
            float(np.mean([change.mean for change in changes])),
            np.mean([change.draws for change in changes], axis=0),
        )

    @property
    def interval(self) -> Interval:
        """The mean with its 95% bounds."""
        if np.ptp(self.draws) == 0:
            return Interval(self.mean, self.mean, self.mean)
        low, high = np.quantile(self.draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(self.mean, float(low), float(high))


class ClusterBootstrap:
    """The same draws of clusters for many means, as a run over many policies and groups needs.

    Args:
        clusters: `[n]` ids of the values that will be averaged; equal ids are drawn together.
        resamples: bootstrap draws.
        seed: of the draws.
    """

    def __init__(
        self, clusters: Sequence[object], resamples: int = RESAMPLES, seed: int = 0
    ) -> None:
        numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
        self._of_value = np.array([numbers[name] for name in clusters])
        self._count = len(numbers)
        generator = np.random.default_rng(seed)
        even = np.full(self._count, 1 / self._count)
        # How often each cluster is drawn: with one of thousands, never more than 65535 times.
        self._drawn = generator.multinomial(self._count, even, size=resamples).astype(np.uint16)

    def intervals(
        self, values: Float[np.ndarray, "n columns"], groups: Sequence[Bool[np.ndarray, " n"]]
    ) -> list[Interval]:
        """For each column the mean over `groups` of the groups' means, with its interval.

        One group of all values gives the plain mean. A group that a draw misses does not count in
        that draw. Bounds are None where one cluster holds all.

        Raises:
            ValueError: a group holds nothing.
        """
        if not all(group.any() for group in groups):
            raise ValueError("a group without values has no mean")
        means = np.mean([values[group].mean(0) for group in groups], axis=0).tolist()
        if len(set(self._of_value[np.any(groups, axis=0)])) == 1:
            return [Interval(mean, None, None) for mean in means]
        drawn = np.concatenate(
            [self._draw_means(values, groups, rows) for rows in self._blocks()], axis=0
        )
        bounds = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return [Interval(*each) for each in zip(means, *bounds.tolist())]

    def _blocks(self) -> list[slice]:
        step = max(1, _CHUNK // self._count)
        return [slice(start, start + step) for start in range(0, len(self._drawn), step)]

    def _draw_means(
        self, values: NDArray[np.float64], groups: Sequence[NDArray[np.bool_]], rows: slice
    ) -> Float[np.ndarray, "draws columns"]:
        drawn = self._drawn[rows].astype(np.float64)
        total, present = np.zeros((len(drawn), values.shape[1])), np.zeros((len(drawn), 1))
        for group in groups:
            sums = np.zeros((self._count, values.shape[1] + 1))
            counted = np.concatenate([values[group], np.ones((group.sum(), 1))], axis=1)
            np.add.at(sums, self._of_value[group], counted)
            sums = drawn @ sums
            hit = sums[:, -1:] > 0
            total += np.where(hit, sums[:, :-1] / np.where(hit, sums[:, -1:], 1), 0)
            present += hit
        return (total / np.maximum(present, 1))[present[:, 0] > 0]


def _checked(values: Values) -> Float[np.ndarray, " n"]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"expected a non-empty list of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite")
    return array


def _cluster_sums(
    values: Float[np.ndarray, " n"], clusters: Sequence[object] | None
) -> tuple[Float[np.ndarray, " clusters"], Int[np.ndarray, " clusters"]]:
    if clusters is None:
        return values, np.ones(len(values), dtype=np.int64)
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values need as many cluster ids, got {len(clusters)}")
    # In order of appearance, so that ids of any hashable type do and renaming changes nothing.
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    index = np.array([numbers[name] for name in clusters])
    return np.bincount(index, weights=values), np.bincount(index)


def _resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.number], resamples: int, seed: int
) -> Float[np.ndarray, " resamples"]:
    """Sum over sum of the clusters of each draw."""
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(sums))
    means = []
    for start in range(0, resamples, step):
        shape = (min(step, resamples - start), len(sums))
        drawn = generator.integers(len(sums), size=shape)
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)

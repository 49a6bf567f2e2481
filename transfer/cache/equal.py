"""A budget under which one policy holds as much as another: in bytes, or in tokens over time.

Fractions, fixed sizes and thresholds that end at the same hold different numbers on the way, and
some policies keep more for each token than others: equal budgets are no equal memory.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean

from transfer.cache.footprint import LayerShape, peak
from transfer.cache.held import Held
from transfer.cache.policy import Depth, Policy, Pruning

#: Fractions are matched in steps of these, in bytes and in tokens.
_STEP, _FINE = 0.005, 0.0001

#: What is made equal, of how much a sequence holds.
AMOUNTS: dict[str, Callable[[Held], float]] = {
    "held": lambda held: held.mean,
    "peak": lambda held: held.peak,
}


@dataclass(frozen=True)
class Course:
    """A sequence whose updates are shifted.

    Attributes:
        tokens: all of them.
        updated: an update falls on the last of so many, see `PrunedCache.count_from`; the others
            are whole intervals away.
    """

    tokens: int
    updated: int


def at_equal_bytes(pruning: Pruning, like: Pruning, shape: LayerShape, tokens: int) -> Pruning:
    """The largest budget of `pruning` that fits into the bytes of `like`.

    Bytes are the most a layer holds while it reads a sequence, all state included.

    Args:
        pruning: all but the number of what is returned. A fraction stays one; of the kind of
            `like`, the number is at least the latter's.
        like: whose bytes it may hold; it has a budget.
        shape: of a layer.
        tokens: of the sequence.
    """

    depths = _depths(pruning, shape.layers)

    def weight(budget: int | float) -> float:
        rule = replace(pruning, budget=budget)
        return fmean(peak(shape, rule, tokens, depth).total for depth in depths)

    least = like.budget if pruning.is_share == like.is_share else None
    budgets = _budgets(pruning, tokens, _STEP, least)
    fit = bisect_right(budgets, peak(shape, like, tokens).total, key=weight)
    return replace(pruning, budget=budgets[max(fit - 1, 0)])


def at_equal_tokens(
    pruning: Pruning,
    like: Pruning,
    amount: str,
    tokens: Sequence[int | Course],
    goal: float | None = None,
    layers: int = 1,
) -> Pruning:
    """The budget of `pruning` that holds as much as `like`, as nearly as there is one.

    Of budgets that hold the same, as they do between two roundings, it is the nearest to that of
    `like`, where both are of one kind.

    Args:
        pruning: all but the number of what is returned; a fraction stays one.
        like: whose tokens it may hold.
        amount: `held`: on average over the tokens seen; `peak`: at most.
        tokens: of the sequences; what they hold is averaged.
        goal: what `like` holds, if it has no budget that would say it.
        layers: how many are pruned.
    """

    @cache
    def weight(budget: int | float) -> float:
        return foreseen(replace(pruning, budget=budget), amount, tokens, layers)

    goal = foreseen(like, amount, tokens, layers) if goal is None else goal
    longest = max(each.tokens if isinstance(each, Course) else each for each in tokens)
    budgets = _budgets(pruning, longest, _FINE)
    place = bisect_left(budgets, goal, key=weight)
    near, nominal = list(budgets[max(place - 1, 0) : place + 1]), 0.0
    if like.budget is not None and pruning.is_share == like.is_share:
        nominal = like.budget
        held = [weight(budget) for budget in near]
        firsts = [bisect_left(budgets, each, key=weight) for each in held]
        lasts = [bisect_right(budgets, each, key=weight) - 1 for each in held]
        near += [nominal, *(budgets[end] for end in (*firsts, *lasts))]

    def distance(budget: int | float) -> tuple[float, int | float]:
        return abs(weight(budget) - goal), abs(budget - nominal)

    return replace(pruning, budget=min(near, key=distance))


def foreseen(
    pruning: Pruning, amount: str, tokens: Sequence[int | Course], layers: int = 1
) -> float:
    """Tokens of a head that sequences hold under a budget, averaged over them and over layers.

    Args:
        pruning: with a budget.
        amount: as of `at_equal_tokens`.
        tokens: of the sequences.
        layers: how many are pruned.
    """
    depths = _depths(pruning, layers)
    reads = (_read(pruning, each, depth) for each in tokens for depth in depths)
    return fmean(map(AMOUNTS[amount], reads))


def _depths(pruning: Pruning, layers: int) -> list[Depth | None]:
    """Of the layers whose budgets differ; None: they are all alike."""
    if type(pruning.policy).layer_budget is Policy.layer_budget:
        return [None]
    return [Depth(place, layers) for place in range(layers)]


def _read(pruning: Pruning, course: int | Course, depth: Depth | None) -> Held:
    """What a head holds of a sequence, from its first token to its last."""
    course = course if isinstance(course, Course) else Course(course, pruning.interval)
    held, left, seen = Held(), 0, 0
    while seen < course.tokens:
        until_update = pruning.interval - (seen - course.updated) % pruning.interval
        new = min(until_update, course.tokens - seen)
        held = held.followed_by(new, left, 0, 0)
        seen, left = seen + new, left + new
        if new == until_update:
            left = min(left, pruning.tokens(seen, depth) or left)
    return held


def _budgets(
    pruning: Pruning, most: int, step: float, least: int | float | None = None
) -> Sequence[int | float]:
    """Those of one kind in ascending order, from `least` on."""
    if pruning.is_share:
        return [
            round(n * step, 4) for n in range(round((least or step) / step), round(1 / step) + 1)
        ]
    first = pruning.protected if least is None else int(least)
    return range(first, max(most, first) + 1)

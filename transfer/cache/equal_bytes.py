"""A budget under which one policy weighs as much as another, which keeps more for each token."""

from bisect import bisect_right
from dataclasses import replace

from transfer.cache.footprint import LayerShape, peak
from transfer.cache.policy import Pruning

#: Fractions are matched in steps of this.
_STEP = 0.005


def at_equal_bytes(pruning: Pruning, like: Pruning, shape: LayerShape, tokens: int) -> Pruning:
    """The largest budget of `pruning` that fits into the bytes of `like`, at least the latter's.

    Bytes are the most a layer holds while it reads a sequence, all state included.

    Args:
        pruning: all but the budget of what is returned.
        like: whose bytes it may hold; it has a budget.
        shape: of a layer.
        tokens: of the sequence.
    """
    assert like.budget is not None

    def weight(candidate: Pruning) -> int:
        return peak(shape, candidate, tokens).total

    step = 1 if isinstance(like.budget, int) else _STEP
    most = max(tokens, like.budget) if isinstance(like.budget, int) else 1.0
    sizes = range(round(like.budget / step), round(most / step) + 1)
    budgets = [size if step == 1 else round(size * step, 3) for size in sizes]
    candidates = [replace(pruning, budget=budget) for budget in budgets]
    fit = bisect_right(candidates, weight(like), key=weight)
    return candidates[max(fit - 1, 0)]

"""Budgets under which eviction rules weigh as much as a NAMM, which keeps more for each token."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transfer.cache.footprint import LayerShape, peak
from transfer.cache.policy import Policy, Pruning
from transfer.errors import UserError

#: Fractions are matched in steps of this.
_STEP = 0.005


@dataclass(frozen=True)
class EqualBytes:
    """Gives rules the tokens that fit into a NAMM's bytes.

    Bytes are the most a layer holds while it reads a sequence, all state included.

    Attributes:
        shape: of a layer.
        tokens: of a sequence.
    """

    shape: LayerShape
    tokens: int

    def pruning(self, policy: Policy, settings: Pruning, namms: Sequence[Policy]) -> Pruning:
        """How `policy` prunes if it may hold what the first of `namms` holds under `settings`.

        Raises:
            UserError: no NAMM to equal, or no budget.
        """
        if policy.name == "namm" or not policy.evicts:
            return replace(settings, policy=policy)
        return self._largest(policy, self._of_namm(settings, namms))

    def _of_namm(self, settings: Pruning, namms: Sequence[Policy]) -> Pruning:
        if not namms:
            raise UserError("equal bytes are those of the policy namm; add it to --policy")
        if settings.budget is None:
            raise UserError("equal bytes need a budget of the NAMM; give --budget a number")
        return replace(settings, policy=namms[0])

    def _largest(self, policy: Policy, namm: Pruning) -> Pruning:
        assert namm.budget is not None
        step = 1 if isinstance(namm.budget, int) else _STEP
        most = self.tokens if isinstance(namm.budget, int) else 1.0
        sizes = range(round(namm.budget / step), round(most / step) + 1)
        budgets = [size if step == 1 else round(size * step, 3) for size in sizes]
        candidates = [replace(namm, policy=policy, budget=budget) for budget in budgets]
        fit = bisect_right(candidates, self._bytes(namm), key=self._bytes)
        return candidates[max(fit - 1, 0)]

    def _bytes(self, pruning: Pruning) -> int:
        return peak(self.shape, pruning, self.tokens).total

"""Numbers of which there are too many to keep: as many as fit, drawn evenly from all."""

import torch
from jaxtyping import Float
from torch import Tensor


class Sample:
    """All numbers that were added while they fit, and then some, each as likely as any other.

    Of 2^20 kept numbers, those below which some share lies have, but in one of 20,000 cases, that
    share of all numbers below them, within 0.2 points.

    Args:
        most: that are kept; meanwhile up to twice as many, and those that were added last.
    """

    def __init__(self, most: int) -> None:
        self._most, self._count, self._below = most, 0, torch.inf
        self._parts: list[tuple[Tensor, ...]] = [(torch.empty(0, dtype=torch.float64),) * 2]
        self._generator = torch.Generator().manual_seed(0)

    def add(self, values: Float[Tensor, " more"]) -> None:
        """Draw a number for each; those with the smallest stay."""
        draws = torch.rand(len(values), generator=self._generator, dtype=torch.float64)
        chosen = draws < self._below
        self._parts.append((draws[chosen], values.cpu()[chosen].double()))
        self._count += int(chosen.sum())
        if self._count > 2 * self._most:
            self.values()

    def values(self) -> Float[Tensor, " kept"]:
        """Those that are kept, in no order."""
        draws, values = map(torch.cat, zip(*self._parts))
        if len(draws) > self._most:
            draws, kept = draws.topk(self._most, largest=False, sorted=False)
            values, self._below = values[kept], float(draws.max())
        self._parts, self._count = [(draws, values)], len(draws)
        return values

"""Snapshots of the last queries, with more tokens in early layers (PyramidKV, arXiv 2406.02069)."""

from dataclasses import dataclass
from typing import ClassVar

from transfer.cache.policy import Depth
from transfer.errors import UserError
from transfer.policies.snapkv import SnapKV


@dataclass(frozen=True)
class PyramidKV(SnapKV):
    """Keeps what `snapkv` keeps, under budgets that fall linearly from the first layer to the last.

    Every layer has the observation window. Of the rest r of an even budget, the last layer gets
    `r / beta` and the first `2 r - r / beta`, those between lie on a line, and all layers together
    hold what they would under the even budget. As long as the first layer would get more tokens
    than there are, the line is flatter. A model of one layer has no pyramid, so `snapkv` it is.

    Args:
        observe, kernel: as of `snapkv`.
        beta: how many times less than the even share the last layer gets, from 1 (alike) on.
    """

    beta: int = 20

    name: ClassVar[str] = "pyramidkv"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 1:
            raise UserError(f"pyramidkv cannot share by a beta of {self.beta}; use 1 or more")

    def layer_budget(self, even: int, seen: int, least: int, depth: Depth) -> int:
        """On the line from the first layer to the last."""
        place, last = depth.place, depth.layers - 1
        rest = even - max(self.observe, least)
        if rest <= 0:
            return even
        top = min(2 * rest - rest / self.beta, seen - even + rest)
        # Layers alike far from the middle round to opposite sides, so that no token is lost.
        mirrored = min(place, last - place)
        more = round((top - rest) * (1 - 2 * mirrored / last))
        return even + more if place == mirrored else even - more

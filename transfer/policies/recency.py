"""Attention sinks and a recent window (StreamingLLM, arXiv 2309.17453)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.arguments import check_fields
from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError


@dataclass(frozen=True)
class Recency(Policy):
    """Keeps the first `sinks` tokens of a sequence and the most recent ones.

    Args:
        sinks: first tokens that always stay. They count towards the budget, of which the newest
            token always has one: a budget that is no larger than the sinks holds the first of them
            and the newest token. 0 is plain FIFO.
    """

    sinks: int = 4

    name: ClassVar[str] = "recency"
    takes_threshold: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.sinks < 0:
            raise UserError(f"recency cannot keep {self.sinks} sinks; use 0 or more")

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """A token's position; the sinks come before all others."""
        position = window.positions - window.first
        # Where the budget cannot hold all sinks, the first of them stay.
        sink = window.seen + self.sinks - position
        return torch.where(position < self.sinks, sink, position).to(state.dtype), state

"""Heavy hitters and a recent window (H2O, arXiv 2306.14048)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow


@dataclass(frozen=True)
class H2O(Policy):
    """Keeps the tokens with the largest accumulated attention, and the most recent ones.

    Half of the budget is for the recent tokens, the rest for heavy hitters. Attention is summed
    over all queries since the token entered the cache.
    """

    name: ClassVar[str] = "h2o"
    reads_attention: ClassVar[bool] = True
    state_size: ClassVar[int] = 1

    def looks_back(self, n_up: int) -> int:
        """Each query counts once."""
        return 0

    def accumulate(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 1"]
    ) -> Float[Tensor, "batch kv_heads tokens 1"]:
        """The state is the attention sum of each token."""
        return state + window.column_sums()[..., None]

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 1"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 1"]]:
        """The attention sums; the recent half of the budget comes before all others."""
        assert window.budget is not None
        newest = torch.arange(state.shape[2], 0, -1, device=state.device)
        recent = newest <= window.budget[:, None, None] // 2
        return self.weigh(state[..., 0], window).masked_fill(recent, torch.inf), state

    def weigh(
        self, sums: Float[Tensor, "batch kv_heads tokens"], window: AttentionWindow
    ) -> Float[Tensor, "batch kv_heads tokens"]:
        """What makes a heavy hitter, from its attention sum."""
        return sums

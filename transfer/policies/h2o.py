"""Heavy hitters and a recent window (H2O, arXiv 2306.14048)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.cache.window import AttentionWindow
from transfer.policies.attention_sum import AttentionSum


@dataclass(frozen=True)
class H2O(AttentionSum):
    """Keeps the tokens with the largest accumulated attention, and the most recent ones.

    Half of the budget is for the recent tokens, the rest for heavy hitters. Attention is summed
    over all queries since the token entered the cache.
    """

    name: ClassVar[str] = "h2o"
    takes_threshold: ClassVar[bool] = False

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

"""What rules of accumulated attention share: each token's sum over all queries since it came."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow


class AttentionSum(Policy):
    """A policy whose state is the attention sum of each token."""

    reads_attention: ClassVar[bool] = True
    state_size: ClassVar[int] = 1

    def looks_back(self, update_interval: int) -> int:
        """Each query counts once."""
        return 0

    def accumulate(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 1"]
    ) -> Float[Tensor, "batch kv_heads tokens 1"]:
        """Add what these queries give."""
        return state.add_(window.column_sums()[..., None])

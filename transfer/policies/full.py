"""Nothing leaves: the stock cache, in our storage."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow


@dataclass(frozen=True)
class Full(Policy):
    """Keeps every token; the reference that every other policy is compared with."""

    name: ClassVar[str] = "full"
    evicts: ClassVar[bool] = False
    threshold: ClassVar[float | None] = 0.0

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """Every token scores the same, at the threshold."""
        return state.new_zeros(state.shape[:3]), state

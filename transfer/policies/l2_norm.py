"""Keys of small norm stay (Devoto et al., arXiv 2406.11430)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow


@dataclass(frozen=True)
class L2Norm(Policy):
    """Keeps the tokens whose keys have the smallest Euclidean norm."""

    name: ClassVar[str] = "l2_norm"

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """The negative key norms."""
        return -window.key_norms, state

"""The newest query decides (TOVA, arXiv 2401.06104)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow


@dataclass(frozen=True)
class TOVA(Policy):
    """Keeps the tokens that the newest query attends to, averaged over the heads of a layer."""

    name: ClassVar[str] = "tova"
    reads_attention: ClassVar[bool] = True
    compares_heads: ClassVar[bool] = True

    def looks_back(self, update_interval: int) -> int:
        """The newest query."""
        return 1

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """Attention of the newest query, the same for all heads.

        Heads hold the same tokens at all times, since they evict the same ones.
        """
        newest = window.rows(1)[:, :, 0]
        return newest.mean(1, keepdim=True).expand_as(newest), state

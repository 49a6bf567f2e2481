"""The last queries decide, smoothed over neighbouring tokens (SnapKV, arXiv 2404.14469)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool1d

from transfer.arguments import check_fields
from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError


@dataclass(frozen=True)
class SnapKV(Policy):
    """Keeps the last `observe` tokens, and those before them that their queries attend to.

    The original does this once, at the end of the prompt; here it happens at every update.

    Args:
        observe: queries in the observation window.
        kernel: width of the average pooling over neighbouring tokens of the cache, odd.
    """

    observe: int = 16
    kernel: int = 5

    name: ClassVar[str] = "snapkv"
    reads_attention: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.observe < 1:
            raise UserError(f"{self.name} cannot observe {self.observe} queries; use 1 or more")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(f"{self.name} cannot pool over {self.kernel} tokens; use an odd number")

    def looks_back(self, update_interval: int) -> int:
        """The observation window."""
        return self.observe

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """The pooled attention of the observation window, whose own tokens come first."""
        seen = window.rows(self.observe).sum(2)
        before = seen.shape[2] - self.observe
        scores = torch.full_like(seen, torch.inf)
        if before > 0:
            scores[..., :before] = avg_pool1d(
                seen[..., :before], self.kernel, stride=1, padding=self.kernel // 2
            )
        return scores, state

"""Attention first, then attention times value norm (CriticalKV, arXiv 2502.03805)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.cache.window import AttentionWindow
from transfer.errors import UserError
from transfer.policies.snapkv import SnapKV

#: What every attention is raised by in the second stage, so that loud values can come in.
_EPSILON = 1e-4


@dataclass(frozen=True)
class CriticalKV(SnapKV):
    """Spends a part of the budget by attention, and the rest by what a token's loss would change.

    Beside the observation window of `snapkv` the budget goes in two stages (algorithm 1): first to
    the largest `A_i`, the pooled mean attention of the window, and then to the largest
    `(A_i + 1e-4) |v_i|_1`. The paper has `|W_O v_i|_1`; a policy sees no model, so the output
    projection is left out here, as if it kept the proportions of norms.

    Args:
        observe, kernel: as of `snapkv`.
        first_stage: share of the budget beside the window that goes by attention alone.
    """

    first_stage: float = 0.5

    name: ClassVar[str] = "criticalkv"
    takes_threshold: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.first_stage <= 1:
            raise UserError(f"criticalkv first_stage {self.first_stage}: use a share from 0 to 1")

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """Those of the second stage; what the first stage took comes before, as the window does."""
        assert window.budget is not None
        sums, state = super().score(window, state)
        attention = sums / self.observe
        beside = sums.isfinite() & window.valid
        order = attention.masked_fill(~beside, -torch.inf).argsort(
            dim=-1, descending=True, stable=True
        )
        room = (window.budget - self.observe).clamp(min=0)[:, None, None]
        first = order.argsort(-1) < (room * self.first_stage).round()
        loss = (attention + _EPSILON) * window.values.norm(p=1, dim=-1)
        return loss.masked_fill(first | ~beside, torch.inf), state

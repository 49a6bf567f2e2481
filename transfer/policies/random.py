"""Chance: what any other rule has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.arguments import check_fields
from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow


@dataclass(frozen=True)
class Random(Policy):
    """Keeps a uniformly random subset of all tokens seen.

    Each token draws one priority at its first update and keeps it. (Drawing anew at every update
    would favour recent tokens, which had to survive fewer draws.)

    Args:
        seed: of the draws; the same batch gives the same draws.
    """

    seed: int = 0

    name: ClassVar[str] = "random"
    state_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_fields(self)

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 1"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 1"]]:
        """The tokens' priorities, in (0, 1]."""
        generator = torch.Generator().manual_seed(
            (self.seed * 1_000_003 + window.layer) * 1_000_003 + window.seen
        )
        drawn = 1 - torch.rand(state.shape, generator=generator, dtype=state.dtype)
        state = torch.where(state == 0, drawn.to(state.device), state)
        return state[..., 0], state

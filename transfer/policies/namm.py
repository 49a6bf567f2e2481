"""The evolved network as a policy (paper section 3)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow
from transfer.namm.network import NAMM
from transfer.namm.spectrogram import BINS


@dataclass(frozen=True)
class NAMMPolicy(Policy):
    """Scores tokens with one NAMM, the same for every layer and head; negative scores leave.

    Args:
        namm: its parameters may have a population axis; candidate p then scores the p-th equal
            share of the batch.
    """

    namm: NAMM

    name: ClassVar[str] = "namm"
    reads_attention: ClassVar[bool] = True
    state_size: ClassVar[int] = BINS
    threshold: ClassVar[float | None] = 0.0

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 17"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 17"]]:
        """Scores of the NAMM; the state is the EMA of each token's spectrogram."""
        gamma = self.namm.config.gamma
        state = state * gamma**window.queries + window.spectrogram(gamma)
        scores = self.namm.score(state.flatten(0, 1), window.age.flatten(0, 1))
        return scores.view(state.shape[:3]), state

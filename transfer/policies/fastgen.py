"""Each head picks the cheapest rule that keeps its attention (FastGen, arXiv 2310.01801)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from transfer.cache.window import AttentionWindow
from transfer.errors import UserError
from transfer.policies.attention_sum import AttentionSum


@dataclass(frozen=True)
class FastGen(AttentionSum):
    """Of some sets of tokens, each head keeps the first that recovers enough of its attention.

    The sets, cheapest first: the first tokens; with the recent ones; with the heavy hitters; with
    both; everything. The original also has a set of punctuation, which attention alone cannot
    tell, and picks once, at the end of the prompt; here each head picks anew at every update.

    Args:
        recovery: share of the attention sum that a set has to hold.
        first: tokens of the first set (the original: special tokens).
        recent: share of the tokens seen that counts as recent.
        heavy: share of the tokens seen that counts as heavy hitters.
    """

    recovery: float = 0.95
    first: int = 4
    recent: float = 0.3
    heavy: float = 0.3

    name: ClassVar[str] = "fastgen"
    threshold: ClassVar[float | None] = 0.0

    def __post_init__(self) -> None:
        for field in ("recovery", "recent", "heavy"):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f"fastgen {field} {getattr(self, field)}: use a share from 0 to 1")

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 1"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 1"]]:
        """The share of the attention sum, minus 1 outside the chosen set.

        Under a budget, members of the set so come before all others.
        """
        share = state[..., 0].masked_fill(~window.valid, 0)
        share = share / share.sum(-1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)
        return share - (~self._chosen(share, window)).to(share.dtype), state

    def _chosen(
        self, share: Float[Tensor, "batch kv_heads tokens"], window: AttentionWindow
    ) -> Bool[Tensor, "batch kv_heads tokens"]:
        seen = window.seen - window.first
        first = window.positions - window.first < self.first
        recent = window.age < self.recent * seen
        rank = share.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        heavy = rank < self.heavy * seen
        chosen = torch.ones_like(first)
        for members in (first | recent | heavy, first | heavy, first | recent, first):
            enough = (share * members).sum(-1, keepdim=True) >= self.recovery
            chosen = torch.where(enough, members, chosen)
        return chosen

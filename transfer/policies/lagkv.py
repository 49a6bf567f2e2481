"""Tokens that stand out against those that follow stay (LagKV, arXiv 2504.04704)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from transfer.arguments import check_fields
from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError
from transfer.policies.sinks import check_sinks, sinks_first


@dataclass(frozen=True)
class LagKV(Policy):
    """Keeps of every few tokens those whose keys and values vary most, seen from the next few.

    Behind the sinks a sequence is cut into chunks of `lag` tokens. Channels of a chunk's keys are
    scaled by the least and the largest of the next chunk, `(k - min) / (max - min)`; the standard
    deviation over the channels of each token goes through a softmax over the chunk, values
    likewise, and both are added. The score is the token's rank by that within its chunk, from
    1 / lag to 1, so that chunks get equal shares of a budget. It asks for no attention.

    A token's chunk is that of its position, and it is ranked once, when the next chunk is there: as
    in the paper each chunk is looked at once, and the shares of old and new chunks stay equal.
    Newer tokens come before those that are ranked: a budget that cannot hold the sinks and up to
    two chunks holds recent tokens alone.

    Args:
        lag: tokens of a chunk (kvpress: 128, of thousands).
        sinks: first tokens that always stay, within the budget.
    """

    lag: int = 16
    sinks: int = 4

    name: ClassVar[str] = "lagkv"
    state_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_fields(self)
        check_sinks(self.name, self.sinks)
        if self.lag < 2:
            raise UserError(f"lagkv cannot rank chunks of {self.lag} tokens; use 2 or more")

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 1"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 1"]]:
        """The ranks, which are the state; those without one yet score 2."""
        rank, index = state[..., 0], window.positions - window.first - self.sinks
        # The last whole chunk has none behind it.
        whole = (window.seen - window.first - self.sinks) // self.lag
        due = window.valid & (index >= 0) & (index < (whole - 1) * self.lag) & (rank == 0)
        if due.any():
            start = int(index[due].min()) // self.lag
            place = (index - start * self.lag).masked_fill(~window.valid, -1)
            ranks = self._ranks(window, place, whole - start)
            rank = torch.where(due, ranks, rank)
        scores = rank.masked_fill(rank == 0, 2)
        return sinks_first(scores, window, self.sinks), rank[..., None]

    def _ranks(
        self, window: AttentionWindow, place: Int[Tensor, "batch kv_heads tokens"], chunks: int
    ) -> Float[Tensor, "batch kv_heads tokens"]:
        """Rank of each token in its chunk, of all chunks but the last; anything elsewhere.

        Args:
            window: the tokens.
            place: of each token from the first chunk's beginning on, -1 for none.
            chunks: how many there are.
        """
        size = chunks * self.lag
        # What lies outside goes into one place behind, which is dropped.
        slot = place.masked_fill((place < 0) | (place >= size), size).long()

        def chunked(states: Tensor) -> Tensor:
            out = states.new_zeros(*states.shape[:2], size + 1, states.shape[-1])
            out.scatter_(2, slot[..., None].expand_as(states), states)
            return out[:, :, :size].unflatten(2, (chunks, self.lag))

        held = chunked(window.valid[..., None])[..., 0]
        score = sum(_standing_out(chunked(each), held) for each in (window.keys, window.values))
        assert isinstance(score, Tensor)
        order = score.masked_fill(~held[:, :, :-1], -1).argsort(dim=-1, stable=True)
        ranks = (order.argsort(-1) + 1) / self.lag
        return pad(ranks.flatten(2), (0, self.lag + 1)).to(window.keys.dtype).gather(2, slot)


def _standing_out(
    states: Float[Tensor, "batch kv_heads chunks lag dim"],
    held: Bool[Tensor, "batch kv_heads chunks lag"],
) -> Float[Tensor, "batch kv_heads before lag"]:
    """How each token of every chunk but the last varies over channels, seen from the next chunk."""
    following, there = states[:, :, 1:], held[:, :, 1:, :, None]
    low = following.masked_fill(~there, torch.inf).amin(3, keepdim=True)
    high = following.masked_fill(~there, -torch.inf).amax(3, keepdim=True)
    # Where little of the next chunk was kept, a channel may have no range: it tells nothing.
    scaled = torch.where(high > low, (states[:, :, :-1] - low) / (high - low), 0)
    least = torch.finfo(states.dtype).min
    return scaled.std(-1).masked_fill(~held[:, :, :-1], least).softmax(-1)

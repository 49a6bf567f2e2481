"""Scores of a whole prompt at once, for toolkits that evict after it and keep a cache of their own.

A cache of this package takes attention into its features as tokens come, and evicts on the way.
Where another toolkit hands over the queries and keys of a prompt, this makes the same features of
them, and the scores of one update at the prompt's end.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.keys import unlikeness
from transfer.namm.network import NAMM
from transfer.ragged import RaggedAttention

#: Queries whose attention is made at a time.
_TOGETHER = 512


@dataclass(frozen=True)
class _Causal:
    """Attention of some of a prompt's queries onto its tokens.

    Attributes:
        query, key: of the whole prompt, exact and scaled.
        first: index of the first new query; those before the prompt are zeros.
        queries: how many are new.
    """

    query: Float[Tensor, "batch heads tokens dim"]
    key: Float[Tensor, "batch kv_heads tokens dim"]
    first: int
    queries: int

    def fold(
        self,
        reduce: Callable[[Tensor], Tensor],
        onto: Float[Tensor, "batch kv_heads tokens ..."],
        carried: int = 0,
    ) -> Float[Tensor, "batch kv_heads tokens ..."]:
        """Add what `reduce` makes of the attention to `onto`, KV head by KV head."""
        start, stop = self.first - carried, self.first + self.queries
        query = self.query[:, :, max(start, 0) : stop].unflatten(1, (self.key.shape[1], -1))
        position = torch.arange(max(start, 0), stop, device=query.device)[:, None]
        later = torch.arange(stop, device=query.device) > position
        for sequence, head in torch.cartesian_prod(*map(torch.arange, self.key.shape[:2])).tolist():
            key = self.key[sequence, head, :stop]
            logits = (query[sequence, head] @ key.mT).masked_fill_(later, -torch.inf)
            attention = logits.softmax(-1).mean(0)
            attention = torch.nn.functional.pad(attention, (0, 0, max(-start, 0), 0))
            onto[sequence, head, :stop] += reduce(attention[None])[0]
        return onto

    def ragged(self, carried: int = 0) -> RaggedAttention | None:
        """None: no kernel reads this."""
        return None


@torch.no_grad()
def prompt_scores(
    namm: NAMM,
    query: Float[Tensor, "batch heads tokens dim"],
    key: Float[Tensor, "batch kv_heads tokens dim"],
    value: Float[Tensor, "batch kv_heads tokens value_dim"],
    scale: float,
) -> Float[Tensor, "batch kv_heads tokens"]:
    """What a NAMM scores each token of a prompt at its end, as `PrunedLayer` would if it pruned
    then for the first time.

    Where the number of tokens does not divide by what the feature reads at a time, the newest
    queries are read whole, and zeros stand before the first. Takes time quadratic in tokens.

    Args:
        namm: one, no population.
        query, key: as they attend to each other, positions in them; no padding.
        value: read for its norm, by features that do.
        scale: of the products of queries and keys.
    """
    feature, tokens = namm.feature, key.shape[2]
    dtype = torch.promote_types(key.dtype, torch.float32)
    query, key = query.to(dtype) * scale, key.to(dtype)
    state = key.new_zeros(*key.shape[:3], feature.state_size)
    first = -(-tokens % feature.multiple_of)
    step = -(-_TOGETHER // feature.multiple_of) * feature.multiple_of
    for start in range(first, tokens, step):
        window = _Causal(query, key, start, min(step, tokens - start))
        state = feature.accumulate(window, state, namm.config.gamma)
    index = torch.arange(tokens, device=key.device).expand(key.shape[0] * key.shape[1], -1)
    told = {"age": tokens - 1 - index, "index": index}
    if feature.reads_norms:
        norms = torch.stack([key.norm(dim=-1), value.to(dtype).norm(dim=-1)], -1)
        told["norms"] = norms.flatten(0, 1)
    if feature.reads_unlike:
        told["unlike"] = unlikeness(key).flatten(0, 1)
    return namm.score(state.flatten(0, 1), **told).view(key.shape[:3])

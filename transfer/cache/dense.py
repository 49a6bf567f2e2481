"""The slow truth: one forward pass with every token's visibility written out as a mask.

`check_adapter` and the tests compare the pruned cache with it. It needs the trace of a pruned run
(`Pruning.trace`) and shares no code with that run.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from transfer.cache.attention import padding_mask
from transfer.cache.layer import PrunedLayer

#: Name of the attention implementation.
IMPLEMENTATION = "transfer_dense"


def register() -> None:
    """Make the implementation known to transformers; harmless when repeated."""
    AttentionInterface.register(IMPLEMENTATION, dense_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, padding_mask)


def visibility(
    layer: PrunedLayer, tokens: int, valid: Bool[Tensor, "batch tokens"] | None = None
) -> Bool[Tensor, "batch kv_heads tokens tokens"]:
    """Which token each query of a traced run could see.

    Args:
        layer: after the run, with `Pruning.trace`.
        tokens: of the whole sequence.
        valid: False at padding.
    """
    shape = (layer.batch_size, layer.kv_heads, tokens, tokens)
    seen = torch.zeros(shape, dtype=torch.bool)
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    for b, own in enumerate(layer.kept_positions):
        updates = [(0, [torch.empty(0)] * layer.kv_heads), *own]
        for (start, kept), (stop, _) in zip(updates, [*updates[1:], (tokens, [])]):
            for head in range(layer.kv_heads):
                alive = torch.zeros(tokens, dtype=torch.bool)
                alive[kept[head].long().cpu()] = True
                alive[start:stop] = True
                seen[b, head, start:stop] = alive & causal[start:stop]
    if valid is not None:
        seen &= valid.cpu()[:, None, None]
    return seen | torch.eye(tokens, dtype=torch.bool)


def dense_attention(
    module: nn.Module,
    query: Float[Tensor, "batch heads tokens dim"],
    key: Float[Tensor, "batch kv_heads tokens dim"],
    value: Float[Tensor, "batch kv_heads tokens value_dim"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch tokens heads value_dim"], None]:
    """Softmax over exactly the tokens in `module.transfer_visibility` (attention interface)."""
    visible = getattr(module, "transfer_visibility", None)
    if visible is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).mT
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    hidden = ~visible.to(query.device).repeat_interleave(groups, 1)
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return (weights @ value.repeat_interleave(groups, 1)).transpose(1, 2).contiguous(), None

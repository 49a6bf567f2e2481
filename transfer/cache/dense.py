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
    AttentionMaskInterface.register(IMPLEMENTATION, dense_mask)


def dense_mask(
    *, q_length: int, attention_mask: Tensor | None, local_size: int | None = None, **kwargs: Any
) -> Tensor | None:
    """The stock mask of sliding windows; elsewhere none, as visibility says it (mask interface)."""
    if local_size is None:
        kwargs |= {"kv_length": q_length, "kv_offset": 0}
        attention_mask = None
    mask = {"q_length": q_length, "attention_mask": attention_mask, "local_size": local_size}
    return padding_mask(**mask, **kwargs)


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
    query: Float[Tensor, "batch heads new dim"],
    key: Float[Tensor, "batch kv_heads tokens dim"],
    value: Float[Tensor, "batch kv_heads tokens value_dim"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch new heads value_dim"], None]:
    """Softmax over the tokens that `module.transfer_visibility` shows (attention interface).

    The new tokens are the last ones of `key`, as in a stock cache. Where `module.transfer_noise` is
    set, every number of the result is off by up to so much, relative to the largest.
    """
    visible = getattr(module, "transfer_visibility", None)
    if visible is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    groups, new, tokens = query.shape[1] // key.shape[1], query.shape[2], key.shape[2]
    exact = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(exact) @ key.to(exact).repeat_interleave(groups, 1).mT
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    hidden = ~visible[:, :, tokens - new : tokens, :tokens].to(query.device)
    weights = scores.masked_fill(hidden.repeat_interleave(groups, 1), -torch.inf).softmax(-1)
    out = weights @ value.to(exact).repeat_interleave(groups, 1)
    out = out + getattr(module, "transfer_noise", 0.0) * out.abs().max() * _signs(out)
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


def _signs(like: Tensor) -> Tensor:
    """Numbers between -1 and 1, the same for the same shape."""
    generator = torch.Generator().manual_seed(like.numel())
    return (2 * torch.rand(like.shape, generator=generator) - 1).to(like)

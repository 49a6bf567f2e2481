"""The two functions registered with transformers: attention over a pruned cache, and its mask.

They hold no state. Which cache a call belongs to comes with the keys, which `PrunedCache.update`
has marked; a call without any cache prunes within itself.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask
from transformers.utils.output_capturing import _active_collector

from transfer.cache.binding import tie_of
from transfer.cache.columns import Columns
from transfer.cache.layer import ASKED, PrunedLayer, another_batch
from transfer.cache.parked import Parked
from transfer.errors import UserError

#: Name of the attention implementation. Must not contain sdpa, flash or flex, which transformers
#: takes apart.
IMPLEMENTATION = "transfer_pruned"


_NOT_PRUNED = (
    "an attached model was given a cache that is not pruned; pass cache=memory.new_cache()"
)


def register() -> None:
    """Make the implementation known to transformers; harmless when repeated."""
    AttentionInterface.register(IMPLEMENTATION, pruned_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, padding_mask)


# Compiled models leave their graph here: what is held differs from head to head.
@torch.compiler.disable
def pruned_attention(
    module: nn.Module,
    query: Float[Tensor, "batch heads new dim"],
    key: Float[Tensor, "batch kv_heads tokens dim"],
    value: Float[Tensor, "batch kv_heads tokens value_dim"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch new heads value_dim"], None]:
    """Attention of a pruned layer (transformers' attention interface).

    Raises:
        UserError: the call would be silently wrong: dropout, gradients, softcap, attention sinks,
            a mask that is more than padding, or a cache that is not pruned.
    """
    if isinstance(key, Parked):
        return _over_cache(module, query, key, value, attention_mask, dropout, scaling, kwargs)
    if not tie_of(module).pruned:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    layer = _layer_for_one_call(module, query, key)
    _refuse(module, (query, key, value), attention_mask, dropout, kwargs)
    return _attend(layer, (query, key, value), attention_mask, scaling), None


def _over_cache(
    module: nn.Module,
    query: Tensor,
    key: Parked,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    kwargs: dict,
) -> tuple[Tensor, None]:
    layer, cache, binding = key.layer, key.owner, tie_of(module).binding
    if key.spent:
        raise UserError(
            f"layer {layer.index} of this model attends twice with the same keys, which a pruned "
            "cache cannot follow; use another model"
        )
    states = (query, key.plain, value)
    _refuse(module, states, mask, dropout, kwargs)
    cache.adopt(binding)
    key.spent = True
    out = _attend(layer, states, mask, scaling)
    cache.leave()
    return out, None


def _attend(
    layer: PrunedLayer,
    states: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    scaling: float | None,
) -> Float[Tensor, "batch new heads value_dim"]:
    query, key, value = _under_autocast(*states)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Policies and features compute in the precision they choose themselves.
    device = query.device.type
    with torch.autocast(device, enabled=False) if _autocasts(device) else nullcontext():
        asked, *stored = _as_stored(layer, query, key, value)
        out = layer.attend(asked, stored[0], stored[1], mask, scale)
    return out.to(query.dtype).transpose(1, 2).contiguous()


def _under_autocast(*states: Tensor) -> Iterator[Tensor]:
    """In the one precision in which the stock attention takes them under `torch.autocast`."""
    device = states[0].device.type
    autocasts = _autocasts(device)
    for tensor in states:
        cast = autocasts and tensor.dtype != torch.float64
        yield tensor.to(torch.get_autocast_dtype(device)) if cast else tensor


def _autocasts(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _as_stored(layer: PrunedLayer, *states: Tensor) -> Iterator[Tensor]:
    """In the precision of the layer's storage, which its first tokens decide."""
    dtype = states[1].dtype if layer.store is None else layer.store.keys.dtype
    for tensor in states:
        yield tensor.to(dtype)


def _layer_for_one_call(module: nn.Module, query: Tensor, key: Tensor) -> PrunedLayer:
    """A layer that lives for this call, for models that are run without a cache."""
    binding = tie_of(module).binding
    assert binding is not None
    if query.shape[2] != key.shape[2]:
        raise UserError(_NOT_PRUNED)
    index = int(getattr(module, "layer_idx", 0))
    return PrunedLayer(binding.pruning, index, depth=binding.depths.get(index))


#: What models hand to the attention function that changes what a query sees of a token.
_UNFOLLOWED = {
    "softcap": "a softcap",
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
    "position_bias": "a position bias",
    "indices": "tokens chosen by each query",
    "block_indices": "blocks of tokens chosen by each query",
    "cu_seq_lens_q": "several sequences packed into one",
}


def _refuse(
    module: nn.Module,
    states: tuple[Tensor, ...],
    mask: Tensor | None,
    dropout: float,
    kwargs: dict[str, Any],
) -> None:
    for name, what in _UNFOLLOWED.items():
        if kwargs.get(name) is not None:
            raise UserError(f"attention with {what} cannot be pruned; use a model without")
    causal = kwargs.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        raise UserError("attention to later tokens cannot be pruned; use a causal decoder")
    if _wants_attention(kwargs):
        raise UserError(
            "a pruned model does not return its attention; leave output_attentions out, use "
            "attach(..., expose_attention=True) and memory.attention(layer)"
        )
    if dropout:
        raise UserError("a pruned cache is for inference; call model.eval() first")
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in states):
        raise UserError("a pruned cache has no gradient; run the model under torch.no_grad()")
    if mask is not None and mask.ndim != 2:
        raise UserError(
            f"a pruned cache needs a mask [batch, tokens] of padding, not {tuple(mask.shape)}; "
            "causality is its own"
        )


def _wants_attention(kwargs: dict[str, Any]) -> bool:
    """Whether the model was called with `output_attentions=True`; not every model hands it down."""
    recorded = _active_collector.get()
    asked = recorded is not None and "attentions" in recorded
    return asked or bool(kwargs.get("output_attentions"))


def padding_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    **kwargs: Any,
) -> Bool[Tensor, "batch ..."] | None:
    """Which tokens are real (transformers' mask interface); None: all of them.

    A mask over the new tokens alone says nothing of those before. One over all columns has to hide
    what was hidden before; if it hides more, it is returned whole, and the cache lets go of that.
    Sliding-window layers are not pruned and get their stock mask.

    Raises:
        UserError: the model lays another mask over the causal one, or the mask does not fit what
            the cache holds.
    """
    if local_size is not None:
        return sdpa_mask(
            batch_size=batch_size,
            q_length=q_length,
            kv_length=kv_length,
            q_offset=q_offset,
            kv_offset=kv_offset,
            mask_function=mask_function,
            attention_mask=attention_mask,
            local_size=local_size,
            **kwargs,
        )
    if mask_function is not causal_mask_function:
        raise UserError(
            "this model masks more than the future (packed or bidirectional tokens), which a "
            "pruned cache cannot follow; pass an attention_mask [batch, tokens]"
        )
    if kv_length != q_length:
        raise UserError(_NOT_PRUNED)
    layer = ASKED.layer() if ASKED.layer and kv_offset else None
    if layer is not None and layer.batch_size != batch_size:
        raise UserError(another_batch(layer.batch_size, batch_size))
    columns = layer.now.columns if layer is not None and layer.now else Columns()
    if attention_mask is None:
        return _unmasked(columns)
    past = attention_mask.shape[1] - q_length
    if past not in (0, kv_offset):
        raise UserError(
            f"an attention mask over {attention_mask.shape[1]} tokens does not fit {kv_offset} "
            f"cached and {q_length} new ones; pass one over all of them"
        )
    if past and _hides_more(columns, attention_mask[:, :past].bool()):
        return attention_mask.bool()
    new = attention_mask[:, past:].bool()
    return None if bool(new.all()) else new


def _unmasked(columns: Columns) -> None:
    """No mask, which says that everything is seen."""
    if columns.dropped is not None:
        raise UserError(
            "an earlier attention mask hid tokens, which this call without a mask would show "
            "again; pass the mask over all tokens at every call"
        )


def _hides_more(columns: Columns, visible: Bool[Tensor, "batch seen"]) -> bool:
    """Whether a mask over the columns of before hides more than is hidden."""
    nothing_hidden = columns.padding is None and columns.dropped is None
    return not (nothing_hidden and bool(visible.all())) and columns.newly_hidden(visible)

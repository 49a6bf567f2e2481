"""Attention of new queries over a packed, ragged cache.

On a GPU one Triton kernel does it. Elsewhere three layouts, one result: rows of equal length are
read through a dense view; many short uneven rows are gathered once into a padded batch; long uneven
rows are visited one by one, which beats padding as soon as a row holds a few hundred tokens. Masks
are never larger than the new tokens.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from transfer.cache import kernels
from transfer.cache.kernels import attention, merge
from transfer.cache.packed import PackedTokens

#: Up to this many new tokens are attended together with the past, behind a small causal mask.
FEW = 8
#: Uneven rows up to this many tokens are gathered into one padded batch.
SHORT = 256

Attended = tuple[
    Float[Tensor, "batch heads queries value_dim"], Float[Tensor, "batch heads queries"]
]


def attend(
    query: Float[Tensor, "batch heads new dim"],
    key: Float[Tensor, "batch kv_heads new dim"],
    value: Float[Tensor, "batch kv_heads new value_dim"],
    valid: Bool[Tensor, "batch new"] | None,
    store: PackedTokens,
    past: list[int],
    scale: float,
) -> Attended:
    """Causal attention of the newest tokens, which `store` already holds, over all it holds.

    Args:
        query, key, value: of the new tokens.
        valid: False at padding among the new tokens; padding sees only itself.
        store: past and new tokens.
        past: tokens of each row before the new ones were added.
        scale: of the scores.
    """
    heads, new = key.shape[1], query.shape[2]
    if valid is None and (new <= FEW or kernels.fused(query)):
        lengths = [length + new for length in past]
        return _over_store(query, heads, store, lengths, scale, causal=new > 1)
    bias = None if valid is None else _padding_bias(valid, query.dtype)
    recent = attention(query, key, value, scale, causal=bias is None, bias=bias)
    if not any(past):
        return recent
    return merge(recent, _over_store(query, heads, store, past, scale, causal=False))


def _padding_bias(
    valid: Bool[Tensor, "batch new"], dtype: torch.dtype
) -> Float[Tensor, "batch 1 new new"]:
    new = valid.shape[1]
    square = torch.ones(new, new, dtype=torch.bool, device=valid.device)
    itself = torch.eye(new, dtype=torch.bool, device=valid.device)
    # Everybody sees itself: a row that sees nothing would be NaN.
    visible = (valid[:, None, None, :] & square.tril()) | itself
    return torch.zeros(visible.shape, dtype=dtype, device=valid.device).masked_fill_(
        ~visible, -torch.inf
    )


def _over_store(
    query: Float[Tensor, "batch heads new dim"],
    kv_heads: int,
    store: PackedTokens,
    lengths: list[int],
    scale: float,
    causal: bool,
) -> Attended:
    """Attention over the first `lengths` tokens of each row; `causal` among the last new ones."""
    batch, heads, new, dim = query.shape
    rows, groups = batch * kv_heads, heads // kv_heads
    folded = query.reshape(rows, 1, groups * new, dim)
    if kernels.fused(query):
        out, lse = _in_one_launch(folded[:, 0], store, lengths, scale, new if causal else 0)
    elif store.uniform and len(set(lengths)) == 1:
        length = lengths[0]
        key = store.dense(store.keys)[:, None, :length]
        value = store.dense(store.values)[:, None, :length]
        bias = _causal_bias(length, new, groups, query) if causal else None
        out, lse = attention(folded, key, value, scale, bias=bias)
    elif rows > kv_heads and max(lengths) <= SHORT:
        out, lse = _over_padded(folded, store, lengths, scale, new if causal else 0)
    else:
        out, lse = _row_by_row(folded, store, lengths, scale, new if causal else 0)
    return out.view(batch, heads, new, -1), lse.view(batch, heads, new)


def _in_one_launch(
    folded: Float[Tensor, "rows queries dim"],
    store: PackedTokens,
    lengths: list[int],
    scale: float,
    new: int,
) -> tuple[Float[Tensor, "rows queries value_dim"], Float[Tensor, "rows queries"]]:
    from transfer.cache.triton_kernels import ragged_attention

    held = store.ends - store.starts
    if lengths != store.lengths:
        held = torch.tensor(lengths, device=folded.device)
    tokens = (store.keys, store.values, store.starts, held)
    return ragged_attention(folded, *tokens, max(lengths), scale, new)


def _causal_bias(
    length: int, new: int, groups: int, like: Tensor
) -> Float[Tensor, "1 1 queries tokens"]:
    bias = like.new_zeros(new, length)
    bias[:, length - new :].masked_fill_(
        torch.ones(new, new, dtype=torch.bool, device=like.device).triu(1), -torch.inf
    )
    return bias.repeat(groups, 1)[None, None]


def _over_padded(
    folded: Float[Tensor, "rows 1 queries dim"],
    store: PackedTokens,
    lengths: list[int],
    scale: float,
    new: int,
) -> Attended:
    """One batched call over rows gathered side by side, the missing tokens masked."""
    device = folded.device
    length = torch.tensor(lengths, device=device)[:, None]
    column = torch.arange(max(lengths), device=device)
    # Masked columns repeat a token of the same row: slots that were never written may hold NaN,
    # and 0 * NaN would poison the output.
    slot = torch.tensor(store.offsets, device=device)[:, None] + column.minimum(
        (length - 1).clamp(min=0)
    )
    visible = (column < length)[:, None]
    if new:
        step = torch.arange(new, device=device).repeat(folded.shape[2] // new)
        visible = column < (length - new + 1 + step)[..., None]
    empty = length[:, 0] == 0
    bias = torch.zeros(visible.shape, dtype=folded.dtype, device=device)
    bias.masked_fill_(~visible & ~empty[:, None, None], -torch.inf)
    out, lse = attention(
        folded,
        store.keys[slot][:, None],
        store.values[slot][:, None],
        scale,
        bias=bias.expand(-1, folded.shape[2], -1)[:, None],
    )
    if empty.any():
        out, lse = out.clone(), lse.clone()
        out[empty], lse[empty] = 0, -torch.inf
    return out, lse


def _row_by_row(
    folded: Float[Tensor, "rows 1 queries dim"],
    store: PackedTokens,
    lengths: list[int],
    scale: float,
    new: int,
) -> Attended:
    rows, _, queries, _ = folded.shape
    exact = torch.promote_types(folded.dtype, torch.float32)
    out = folded.new_zeros(rows, 1, queries, store.values.shape[-1])
    lse = torch.full((rows, 1, queries), -torch.inf, dtype=exact, device=folded.device)
    for row, length in enumerate(lengths):
        if length == 0:
            continue
        bias = _causal_bias(length, new, queries // new, folded) if new else None
        out[row : row + 1], lse[row : row + 1] = attention(
            folded[row : row + 1],
            store.row(store.keys, row, length)[None, None],
            store.row(store.values, row, length)[None, None],
            scale,
            bias=bias,
        )
    return out, lse

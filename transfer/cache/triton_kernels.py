"""Attention and its sums straight over a packed, ragged cache, one launch for all rows.

A row of `PackedTokens` is an offset and a length on the device; no program reads another row's
slots, so uneven heads cost what they hold, without padding, gathering or waiting for the host.
Needs Triton, which CPU wheels of torch come without: import this module only where it is used.
"""

import math
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from transfer.ragged import RaggedAttention
from transfer.tiles import (
    LOG2E,
    attention_onto,
    launch,
    load_tile,
    padded,
    store_tile,
    window_block,
)

#: Warps that fill a large GPU; where there are fewer, several programs share a row's tokens.
WARPS = 1024
#: Tokens that are worth a program of their own, and the most programs that share a row's.
SPLIT_TOKENS, MOST_SPLITS = 128, 64
#: Tokens that one program appends.
APPEND_TOKENS = 16

LN2 = tl.constexpr(math.log(2))


def ragged_attention(
    query: Float[Tensor, "rows queries dim"],
    keys: Float[Tensor, "slots dim"],
    values: Float[Tensor, "slots value_dim"],
    offsets: Int[Tensor, " rows"],
    lengths: Int[Tensor, " rows"],
    longest: int,
    scale: float,
    new: int = 0,
) -> tuple[Float[Tensor, "rows queries value_dim"], Float[Tensor, "rows queries"]]:
    """Softmax attention of each row's queries over the first `lengths` tokens of that row.

    Two launches when few queries meet many tokens (the tokens are split over programs, the parts
    merged), else one. Never waits for the device.

    Args:
        query: in group-major order, query `group * new + step` of a row; any strides but the last.
        keys, values: flat buffers, contiguous, float16, bfloat16 or float32 like the query. What
            lies outside the rows' tokens is never read.
        offsets, lengths: first slot and number of tokens of each row, on the device.
        longest: at least the largest length; only how the work is cut up depends on it.
        scale: of the scores.
        new: 0: every query sees all tokens. Else the last `new` tokens are those of the queries
            themselves, and step i sees `lengths - new + 1 + i` tokens.

    Returns:
        The output in the query's dtype, the natural logsumexp in float32; 0 and -inf for queries
        that see no token.
    """
    rows, queries, dim = query.shape
    value_dim = values.shape[1]
    tile, warps = _attention_tile(queries, max(dim, value_dim), query.dtype)
    programs = rows * triton.cdiv(queries, tile["QUERIES"])
    splits = _splits(programs * warps["num_warps"], longest)
    exact = {"dtype": torch.float32, "device": query.device}
    out = query.new_empty(rows, queries, value_dim)
    lse = torch.empty(rows, queries, **exact)
    parts, part_lse = out, lse
    if splits > 1:
        parts = torch.empty(rows, queries, splits, value_dim, **exact)
        part_lse = torch.empty(rows, queries, splits, **exact)
    with torch.cuda.device_of(query):
        _attention_kernel[programs, splits](
            *(query, keys, values, offsets, lengths, parts, part_lse),
            *(queries, new, scale, query.stride(0), query.stride(1)),
            *(dim, value_dim, padded(dim), padded(value_dim)),
            **tile,
            **warps,
        )
        if splits > 1:
            _merge_kernel[(rows * queries,)](
                parts, part_lse, out, lse, value_dim, padded(value_dim), splits
            )
    return out, lse


def append(
    keys: Float[Tensor, "slots dim"],
    values: Float[Tensor, "slots value_dim"],
    positions: Int[Tensor, " slots"],
    offsets: Int[Tensor, " rows"],
    lengths: Int[Tensor, " rows"],
    key: Float[Tensor, "rows new dim"],
    value: Float[Tensor, "rows new value_dim"],
    first: int,
) -> None:
    """Write new tokens behind each row's `lengths` tokens, in place; `lengths` stays as it is.

    Args:
        keys, values, positions: flat buffers, contiguous, with room for the tokens.
        offsets, lengths: first slot and number of tokens of each row, on the device.
        key, value: of the new tokens; any strides but the last.
        first: the true position of the first new token, the others follow.
    """
    rows, new, dim = key.shape
    value_dim = value.shape[2]
    with torch.cuda.device_of(key):
        _append_kernel[(rows * triton.cdiv(new, APPEND_TOKENS),)](
            *(keys, values, positions, offsets, lengths, key, value, first, new),
            *(key.stride(0), key.stride(1), value.stride(0), value.stride(1)),
            *(dim, value_dim, padded(dim), padded(value_dim), APPEND_TOKENS),
        )


def column_sums(window: RaggedAttention) -> Float[Tensor, "rows longest"]:
    """Attention every token got from the window's queries, averaged over the groups. One launch.

    Returns:
        float32, padded with zeros on the left: a row's newest token is the last.
    """
    shape, device = (len(window.query), window.longest), window.query.device
    out = torch.empty(shape, dtype=torch.float32, device=device)
    launch(_column_sums_kernel, window, out)
    return out


def _attention_tile(
    queries: int, dim: int, dtype: torch.dtype
) -> tuple[dict[str, int], dict[str, int]]:
    """Queries and tokens of a tile, then its warps and loads in flight.

    The largest that Hopper's registers hold. Exact float32 products have no matrix unit and keep
    whole rows in registers.
    """
    if dtype == torch.float32:
        queries, tokens, warps, stages = 16, 32, 8, 2
    elif queries <= 16:
        queries, tokens, warps, stages = 16, 64, 4, 3 if dim <= 128 else 2
    elif queries <= 64 or dim > 128:
        queries, tokens, warps, stages = 64, 64 if dim <= 128 else 32, 4, 2
    else:
        queries, tokens, warps, stages = 128, 64, 8, 2
    return {"QUERIES": queries, "TOKENS": tokens}, {"num_warps": warps, "num_stages": stages}


def _splits(warps: int, longest: int) -> int:
    """Among how many programs a row's tokens are shared out, a power of two."""
    wanted = min(WARPS // max(warps, 1), triton.cdiv(longest, SPLIT_TOKENS), MOST_SPLITS)
    return triton.next_power_of_2(max(wanted, 1))


# Kernels must not be shape-checked in tests, see `transfer.tiles`.


@triton.jit
@no_type_check
def _finite(top):
    """What to subtract before exp2: -inf - -inf would be NaN."""
    return tl.where(top == -float("inf"), 0.0, top)


@triton.jit(do_not_specialize=["queries", "new"])
@no_type_check
def _attention_kernel(
    query,
    keys,
    values,
    offsets,
    lengths,
    out,
    lse,
    queries,
    new,
    scale,
    row_stride,
    query_stride,
    DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PAD: tl.constexpr,
    VALUE_PAD: tl.constexpr,
    QUERIES: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """One tile of a row's queries over one share of its tokens, by online softmax.

    `out` is `[rows, queries, splits, VALUE_DIM]`, `lse` the same without the last.
    """
    tiles = tl.cdiv(queries, QUERIES)
    row = (tl.program_id(0) // tiles).to(tl.int64)
    start = tl.program_id(0) % tiles * QUERIES
    split, splits = tl.program_id(1), tl.num_programs(1)
    index = start + tl.arange(0, QUERIES)
    asked = index < queries
    offset, length = tl.load(offsets + row), tl.load(lengths + row).to(tl.int32)
    # Without new tokens everybody sees up to the end.
    limit = length - tl.maximum(new - 1 - index % tl.maximum(new, 1), 0)
    share = tl.cdiv(tl.cdiv(length, TOKENS), splits) * TOKENS
    stop = tl.minimum((split + 1) * share, tl.max(limit, 0))

    tile = load_tile(query + row * row_stride + start * query_stride, query_stride, asked, DIM, PAD)
    top = tl.full([QUERIES], -float("inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mean = tl.zeros([QUERIES, VALUE_PAD], tl.float32)
    for token in range(split * share, stop, TOKENS):
        column = token + tl.arange(0, TOKENS)
        held = column < length
        slot = offset + token
        key = load_tile(keys + slot * DIM, DIM, held, DIM, PAD)
        scores = tl.dot(tile, tl.trans(key), input_precision="ieee") * (scale * LOG2E)
        scores = tl.where(column[None, :] < limit[:, None], scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - _finite(higher)[:, None])
        shrink = tl.exp2(top - _finite(higher))
        value = load_tile(values + slot * VALUE_DIM, VALUE_DIM, held, VALUE_DIM, VALUE_PAD)
        mean = tl.dot(
            weights.to(value.dtype), value, mean * shrink[:, None], input_precision="ieee"
        )
        total = total * shrink + tl.sum(weights, 1)
        top = higher

    total = tl.where(total > 0, total, 1.0)
    at = (row * queries + start) * splits + split
    store_tile(out + at * VALUE_DIM, splits * VALUE_DIM, asked, mean / total[:, None], VALUE_DIM)
    place = lse + at + tl.arange(0, QUERIES) * splits
    tl.store(place, (top + tl.log2(total)) * LN2, mask=asked)


@triton.jit
@no_type_check
def _merge_kernel(
    parts,
    part_lse,
    out,
    lse,
    DIM: tl.constexpr,
    PAD: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """One query's attention over all its tokens from that over each share of them."""
    at, split = tl.program_id(0).to(tl.int64), tl.arange(0, SPLITS)
    part = tl.load(part_lse + at * SPLITS + split)
    top = tl.max(part, 0)
    weights = tl.exp2((part - _finite(top)) * LOG2E)
    total = tl.sum(weights, 0)
    total = tl.where(total > 0, total, 1.0)
    tile = load_tile(parts + at * SPLITS * DIM, DIM, split < SPLITS, DIM, PAD)
    column = tl.arange(0, PAD)
    mean = tl.sum(tile * weights[:, None], 0) / total
    tl.store(out + at * DIM + column, mean, mask=column < DIM)
    tl.store(lse + at, top + tl.log2(total) * LN2)


@triton.jit(do_not_specialize=["first", "new"])
@no_type_check
def _append_kernel(
    keys,
    values,
    positions,
    offsets,
    lengths,
    key,
    value,
    first,
    new,
    key_row,
    key_step,
    value_row,
    value_step,
    DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PAD: tl.constexpr,
    VALUE_PAD: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Up to TOKENS of one row's new tokens."""
    blocks = tl.cdiv(new, TOKENS)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    start = (tl.program_id(0) % blocks * TOKENS).to(tl.int64)
    step = start + tl.arange(0, TOKENS)
    there = step < new
    slot = tl.load(offsets + row) + tl.load(lengths + row) + start
    tile = load_tile(key + row * key_row + start * key_step, key_step, there, DIM, PAD)
    store_tile(keys + slot * DIM, DIM, there, tile, DIM)
    tile = load_tile(
        value + row * value_row + start * value_step, value_step, there, VALUE_DIM, VALUE_PAD
    )
    store_tile(values + slot * VALUE_DIM, VALUE_DIM, there, tile, VALUE_DIM)
    tl.store(positions + slot + tl.arange(0, TOKENS), first + step, mask=there)


@triton.jit(do_not_specialize=["longest", "first", "queries"])
@no_type_check
def _column_sums_kernel(
    out,
    scale,
    query,
    lse,
    keys,
    positions,
    offsets,
    lengths,
    longest,
    first,
    queries,
    row_stride,
    group_stride,
    query_stride,
    lse_row_stride,
    lse_group_stride,
    GROUPS: tl.constexpr,
    DIM: tl.constexpr,
    PAD: tl.constexpr,
    TOKENS: tl.constexpr,
    QUERIES: tl.constexpr,
):
    """Sum `[TOKENS]` of the attention of the queries."""
    row, block, key, position, some = window_block(
        keys, positions, offsets, lengths, longest, DIM, PAD, TOKENS
    )
    query, lse = query + row * row_stride, lse + row * lse_row_stride
    total = tl.zeros([TOKENS], tl.float32)
    for start in range(0, tl.where(some, queries, 0), QUERIES):
        attention = attention_onto(
            key, position, query, lse, start, queries, first, scale,
            group_stride, query_stride, lse_group_stride, GROUPS, DIM, PAD, QUERIES,
        )  # fmt: skip
        total += tl.sum(attention, 1)
    column = block + tl.arange(0, TOKENS)
    tl.store(out + row * longest + column, total, mask=column < longest)

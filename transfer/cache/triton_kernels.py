"""Attention and window features straight over a packed, ragged cache, one launch for all rows.

A row of `PackedTokens` is an offset and a length on the device; no program reads another row's
slots, so uneven heads cost what they hold, without padding, gathering or waiting for the host.
Needs Triton, which CPU wheels of torch come without: import this module only where it is used.
"""

import math
from functools import cache
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from transfer.namm.spectrogram import BINS, HOP, WINDOW, dft_matrix

#: Warps that fill a large GPU; where there are fewer, several programs share a row's tokens.
WARPS = 1024
#: Tokens that are worth a program of their own, and the most programs that share a row's.
SPLIT_TOKENS, MOST_SPLITS = 128, 64
#: Tokens that one program appends, and that one program reads the window's attention onto.
APPEND_TOKENS, WINDOW_TOKENS = 16, 64
WINDOW_LAUNCH = {"HOP": HOP, "num_warps": 8, "num_stages": 2}

LOG2E = tl.constexpr(math.log2(math.e))
LN2 = tl.constexpr(math.log(2))
NEVER = tl.constexpr(2**31 - 1)


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
    tile, launch = _attention_tile(queries, max(dim, value_dim), query.dtype)
    programs = rows * triton.cdiv(queries, tile["QUERIES"])
    splits = _splits(programs * launch["num_warps"], longest)
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
            *(dim, value_dim, _padded(dim), _padded(value_dim)),
            **tile,
            **launch,
        )
        if splits > 1:
            _merge_kernel[(rows * queries,)](
                parts, part_lse, out, lse, value_dim, _padded(value_dim), splits
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
            *(dim, value_dim, _padded(dim), _padded(value_dim), APPEND_TOKENS),
        )


def window_spectrogram(
    query: Float[Tensor, "rows groups queries dim"],
    lse: Float[Tensor, "rows groups queries"],
    keys: Float[Tensor, "slots dim"],
    positions: Int[Tensor, " slots"],
    offsets: Int[Tensor, " rows"],
    lengths: Int[Tensor, " rows"],
    longest: int,
    first: int,
    scale: float,
    gamma: float,
) -> Float[Tensor, "rows longest 17"]:
    """`ema_spectrogram` of the window's attention onto every token, averaged over the groups.

    The attention lives in registers only. One launch.

    Args:
        query: the last 16 queries of the window before, then a positive multiple of 16 of this
            one; any strides but the last.
        lse: of the queries, +inf where there is none; contiguous in the last dimension.
        keys, positions: flat buffers, contiguous.
        offsets, lengths: first slot and number of tokens of each row, on the device.
        longest: the largest length.
        first: true position of the first query; a query sees tokens up to its own position.
        scale: of the scores.
        gamma: decay a query.

    Returns:
        float32, padded with zeros on the left: a row's newest token is the last.
    """
    out = torch.empty(len(query), longest, BINS, dtype=torch.float32, device=query.device)
    arguments = _window_arguments(query, lse, keys, positions, offsets, lengths, longest, first)
    with torch.cuda.device_of(query):
        _spectrogram_kernel[(len(query) * triton.cdiv(longest, WINDOW_TOKENS),)](
            *(out, _dft_tables(query.device), gamma**HOP, scale, *arguments),
            WINDOW=WINDOW,
            BINS=BINS,
            **WINDOW_LAUNCH,
        )
    return out


def column_sums(
    query: Float[Tensor, "rows groups queries dim"],
    lse: Float[Tensor, "rows groups queries"],
    keys: Float[Tensor, "slots dim"],
    positions: Int[Tensor, " slots"],
    offsets: Int[Tensor, " rows"],
    lengths: Int[Tensor, " rows"],
    longest: int,
    first: int,
    scale: float,
) -> Float[Tensor, "rows longest"]:
    """Attention every token got from the queries, averaged over the groups.

    Takes and returns what `window_spectrogram` does, but any number of queries. One launch.
    """
    out = torch.empty(len(query), longest, dtype=torch.float32, device=query.device)
    arguments = _window_arguments(query, lse, keys, positions, offsets, lengths, longest, first)
    with torch.cuda.device_of(query):
        _column_sums_kernel[(len(query) * triton.cdiv(longest, WINDOW_TOKENS),)](
            *(out, scale, *arguments), **WINDOW_LAUNCH
        )
    return out


def _padded(dim: int) -> int:
    """Width of a tile that holds `dim` columns: `tl.dot` takes powers of two from 16 on."""
    return max(16, triton.next_power_of_2(dim))


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


def _window_arguments(
    query: Tensor,
    lse: Tensor,
    keys: Tensor,
    positions: Tensor,
    offsets: Tensor,
    lengths: Tensor,
    longest: int,
    first: int,
) -> tuple[Any, ...]:
    """What both window kernels take."""
    _, groups, queries, dim = query.shape
    return (
        *(query, lse, keys, positions, offsets, lengths, longest, first, queries),
        *(*query.stride()[:3], *lse.stride()[:2], groups, dim, _padded(dim), WINDOW_TOKENS),
    )


@cache
def _dft_tables(device: torch.device) -> Float[Tensor, "2 32 32"]:
    """Real and imaginary parts of the windowed DFT, `[part, sample, bin]`, zero after bin 16."""
    rows = dft_matrix(torch.float32, device)
    tables = torch.zeros(2, WINDOW, WINDOW, device=device)
    tables[0, :, :BINS] = rows[:BINS].mT
    tables[1, :, 1 : BINS - 1] = rows[BINS:].mT
    return tables


# Kernels. Upper case is known when compiled. Where shapes are checked (in tests) the kernels must
# not be: Triton reads their source, and a checked function is another one.


@triton.jit
@no_type_check
def _tile(pointer, stride, there, DIM: tl.constexpr, PAD: tl.constexpr):
    """`[rows, PAD]` from rows `stride` apart; 0 outside `there` and DIM, where NaN may lie."""
    row, column = tl.arange(0, there.shape[0])[:, None], tl.arange(0, PAD)[None, :]
    return tl.load(pointer + row * stride + column, mask=there[:, None] & (column < DIM), other=0.0)


@triton.jit
@no_type_check
def _store_tile(pointer, stride, there, tile, DIM: tl.constexpr):
    """The reverse of `_tile`."""
    row, column = tl.arange(0, tile.shape[0])[:, None], tl.arange(0, tile.shape[1])[None, :]
    tl.store(pointer + row * stride + column, tile, mask=there[:, None] & (column < DIM))


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

    tile = _tile(query + row * row_stride + start * query_stride, query_stride, asked, DIM, PAD)
    top = tl.full([QUERIES], -float("inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mean = tl.zeros([QUERIES, VALUE_PAD], tl.float32)
    for token in range(split * share, stop, TOKENS):
        column = token + tl.arange(0, TOKENS)
        held = column < length
        slot = offset + token
        key = _tile(keys + slot * DIM, DIM, held, DIM, PAD)
        scores = tl.dot(tile, tl.trans(key), input_precision="ieee") * (scale * LOG2E)
        scores = tl.where(column[None, :] < limit[:, None], scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - _finite(higher)[:, None])
        shrink = tl.exp2(top - _finite(higher))
        value = _tile(values + slot * VALUE_DIM, VALUE_DIM, held, VALUE_DIM, VALUE_PAD)
        mean = tl.dot(
            weights.to(value.dtype), value, mean * shrink[:, None], input_precision="ieee"
        )
        total = total * shrink + tl.sum(weights, 1)
        top = higher

    total = tl.where(total > 0, total, 1.0)
    at = (row * queries + start) * splits + split
    _store_tile(out + at * VALUE_DIM, splits * VALUE_DIM, asked, mean / total[:, None], VALUE_DIM)
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
    tile = _tile(parts + at * SPLITS * DIM, DIM, split < SPLITS, DIM, PAD)
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
    tile = _tile(key + row * key_row + start * key_step, key_step, there, DIM, PAD)
    _store_tile(keys + slot * DIM, DIM, there, tile, DIM)
    tile = _tile(
        value + row * value_row + start * value_step, value_step, there, VALUE_DIM, VALUE_PAD
    )
    _store_tile(values + slot * VALUE_DIM, VALUE_DIM, there, tile, VALUE_DIM)
    tl.store(positions + slot + tl.arange(0, TOKENS), first + step, mask=there)


@triton.jit
@no_type_check
def _window_block(
    keys,
    positions,
    offsets,
    lengths,
    longest,
    DIM: tl.constexpr,
    PAD: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """The tokens of this program: `(row, first column, keys, positions, whether any is real)`.

    Columns count from the left of the padded row; padding is at a position that no query reaches.
    """
    blocks = tl.cdiv(longest, TOKENS)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    start = tl.program_id(0) % blocks * TOKENS
    column = start + tl.arange(0, TOKENS)
    missing = longest - tl.load(lengths + row).to(tl.int32)
    held = (column >= missing) & (column < longest)
    slot = tl.load(offsets + row) + start - missing
    key = _tile(keys + slot * DIM, DIM, held, DIM, PAD)
    position = tl.load(positions + slot + tl.arange(0, TOKENS), mask=held, other=NEVER)
    return row, start, key, position, start + TOKENS > missing


@triton.jit
@no_type_check
def _attention_onto(
    key,
    position,
    query,
    lse,
    start,
    queries,
    first,
    scale,
    group_stride,
    query_stride,
    lse_group_stride,
    GROUPS: tl.constexpr,
    DIM: tl.constexpr,
    PAD: tl.constexpr,
    QUERIES: tl.constexpr,
):
    """Attention `[tokens, QUERIES]` of a row's queries from `start` on, mean over the groups."""
    index = start + tl.arange(0, QUERIES)
    asked = index < queries
    visible = position[:, None] <= (first + index)[None, :]
    mean = tl.zeros([key.shape[0], QUERIES], tl.float32)
    for group in range(GROUPS):
        at = query + group * group_stride + start * query_stride
        tile = _tile(at, query_stride, asked, DIM, PAD)
        bound = tl.load(lse + group * lse_group_stride + index, mask=asked, other=float("inf"))
        scores = tl.dot(key, tl.trans(tile), input_precision="ieee") * scale - bound[None, :]
        mean += tl.exp2(tl.where(visible, scores * LOG2E, -float("inf")))
    return mean / GROUPS


@triton.jit(do_not_specialize=["longest", "first", "queries"])
@no_type_check
def _spectrogram_kernel(
    out,
    tables,
    decay,
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
    HOP: tl.constexpr,
    WINDOW: tl.constexpr,
    BINS: tl.constexpr,
):
    """EMA of the magnitudes `[TOKENS, WINDOW]` (17 bins, then zeros), hop after hop of queries."""
    row, block, key, position, some = _window_block(
        keys, positions, offsets, lengths, longest, DIM, PAD, TOKENS
    )
    query, lse = query + row * row_stride, lse + row * lse_row_stride
    # A window is two hops: the table rows of its old and of its new samples.
    at = tables + tl.arange(0, HOP)[:, None] * WINDOW + tl.arange(0, WINDOW)[None, :]
    cos_old, cos_new = tl.load(at), tl.load(at + HOP * WINDOW)
    at += WINDOW * WINDOW
    sin_old, sin_new = tl.load(at), tl.load(at + HOP * WINDOW)
    old = tl.zeros([TOKENS, HOP], tl.float32)
    features = tl.zeros([TOKENS, WINDOW], tl.float32)
    for start in range(0, tl.where(some, queries, 0), HOP):
        new = _attention_onto(
            key, position, query, lse, start, queries, first, scale,
            group_stride, query_stride, lse_group_stride, GROUPS, DIM, PAD, HOP,
        )  # fmt: skip
        real = tl.dot(old, cos_old, input_precision="ieee")
        real = tl.dot(new, cos_new, real, input_precision="ieee")
        imaginary = tl.dot(old, sin_old, input_precision="ieee")
        imaginary = tl.dot(new, sin_new, imaginary, input_precision="ieee")
        magnitude = tl.sqrt(real * real + imaginary * imaginary)
        # The first hop alone is no window yet.
        features = features * decay + magnitude * tl.where(start > 0, 1 - decay, 0.0)
        old = new
    there = block + tl.arange(0, TOKENS) < longest
    _store_tile(out + (row * longest + block) * BINS, BINS, there, features, BINS)


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
    HOP: tl.constexpr,
):
    """Sum `[TOKENS]` of the attention of the queries."""
    row, block, key, position, some = _window_block(
        keys, positions, offsets, lengths, longest, DIM, PAD, TOKENS
    )
    query, lse = query + row * row_stride, lse + row * lse_row_stride
    total = tl.zeros([TOKENS], tl.float32)
    for start in range(0, tl.where(some, queries, 0), HOP):
        attention = _attention_onto(
            key, position, query, lse, start, queries, first, scale,
            group_stride, query_stride, lse_group_stride, GROUPS, DIM, PAD, HOP,
        )  # fmt: skip
        total += tl.sum(attention, 1)
    column = block + tl.arange(0, TOKENS)
    tl.store(out + row * longest + column, total, mask=column < longest)

"""Triton pieces for kernels over ragged tokens: tiles, and the attention of a window of queries.

The kernels are in the rooms that need them: `transfer.cache.triton_kernels`, and beside a NAMM's
features. Needs Triton, which CPU wheels of torch come without: import this module only where it is
used.
"""

import math
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl

from transfer.ragged import RaggedAttention

#: Tokens that one program reads a window's attention onto, and queries that it reads at a time.
WINDOW_TOKENS, WINDOW_QUERIES = 64, 16

LOG2E = tl.constexpr(math.log2(math.e))
NEVER = tl.constexpr(2**31 - 1)


def padded(dim: int) -> int:
    """Width of a tile that holds `dim` columns: `tl.dot` takes powers of two from 16 on."""
    return max(16, triton.next_power_of_2(dim))


def launch(kernel: Any, window: RaggedAttention, *own: Any, **constants: int) -> None:
    """Launch a kernel over the tokens of a window, `WINDOW_TOKENS` of one row a program.

    Args:
        kernel: takes its own arguments, then `scale` and those of `window_block` and
            `attention_onto` in the order given here.
        window: what it looks at.
        own: its own arguments.
        constants: its own constants.
    """
    rows, groups, queries, dim = window.query.shape
    with torch.cuda.device_of(window.query):
        kernel[(rows * triton.cdiv(window.longest, WINDOW_TOKENS),)](
            *(*own, window.scale, window.query, window.lse, window.keys, window.positions),
            *(window.starts, window.lengths, window.longest, window.first, queries),
            *(*window.query.stride()[:3], *window.lse.stride()[:2]),
            *(groups, dim, padded(dim), WINDOW_TOKENS, WINDOW_QUERIES),
            **constants,
            num_warps=8,
            num_stages=2,
        )


# Kernels. Upper case is known when compiled. Where shapes are checked (in tests) the kernels must
# not be: Triton reads their source, and a checked function is another one.


@triton.jit
@no_type_check
def load_tile(pointer, stride, there, DIM: tl.constexpr, PAD: tl.constexpr):
    """`[rows, PAD]` from rows `stride` apart; 0 outside `there` and DIM, where NaN may lie."""
    row, column = tl.arange(0, there.shape[0])[:, None], tl.arange(0, PAD)[None, :]
    return tl.load(pointer + row * stride + column, mask=there[:, None] & (column < DIM), other=0.0)


@triton.jit
@no_type_check
def store_tile(pointer, stride, there, tile, DIM: tl.constexpr):
    """The reverse of `load_tile`."""
    row, column = tl.arange(0, tile.shape[0])[:, None], tl.arange(0, tile.shape[1])[None, :]
    tl.store(pointer + row * stride + column, tile, mask=there[:, None] & (column < DIM))


@triton.jit
@no_type_check
def window_block(
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
    key = load_tile(keys + slot * DIM, DIM, held, DIM, PAD)
    position = tl.load(positions + slot + tl.arange(0, TOKENS), mask=held, other=NEVER)
    return row, start, key, position, start + TOKENS > missing


@triton.jit
@no_type_check
def attention_onto(
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
        tile = load_tile(at, query_stride, asked, DIM, PAD)
        bound = tl.load(lse + group * lse_group_stride + index, mask=asked, other=float("inf"))
        scores = tl.dot(key, tl.trans(tile), input_precision="ieee") * scale - bound[None, :]
        mean += tl.exp2(tl.where(visible, scores * LOG2E, -float("inf")))
    return mean / GROUPS

"""The spectrogram of a window's attention in one launch, the attention in registers only.

Needs Triton: import this module only where it is used.
"""

from functools import cache
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from transfer.namm.spectrogram import BINS, HOP, WINDOW, dft_matrix
from transfer.ragged import RaggedAttention
from transfer.tiles import WINDOW_QUERIES, attention_onto, launch, store_tile, window_block

assert WINDOW_QUERIES == HOP, "the kernel reads the queries hop by hop"


def window_spectrogram(window: RaggedAttention, gamma: float) -> Float[Tensor, "rows longest 17"]:
    """`ema_spectrogram` of the window's attention onto every token, averaged over the groups.

    Args:
        window: its queries are the last 16 of the window before, then a positive multiple of 16 of
            this one.
        gamma: decay a query.

    Returns:
        float32, padded with zeros on the left: a row's newest token is the last.
    """
    rows, device = len(window.query), window.query.device
    out = torch.empty(rows, window.longest, BINS, dtype=torch.float32, device=device)
    launch(_kernel, window, out, _dft_tables(device), gamma**HOP, WINDOW=WINDOW, BINS=BINS)
    return out


@cache
def _dft_tables(device: torch.device) -> Float[Tensor, "2 32 32"]:
    """Real and imaginary parts of the windowed DFT, `[part, sample, bin]`, zero after bin 16."""
    rows = dft_matrix(torch.float32, device)
    tables = torch.zeros(2, WINDOW, WINDOW, device=device)
    tables[0, :, :BINS] = rows[:BINS].mT
    tables[1, :, 1 : BINS - 1] = rows[BINS:].mT
    return tables


# A kernel must not be shape-checked in tests, see `transfer.tiles`.


@triton.jit(do_not_specialize=["longest", "first", "queries"])
@no_type_check
def _kernel(
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
    row, block, key, position, some = window_block(
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
        new = attention_onto(
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
    store_tile(out + (row * longest + block) * BINS, BINS, there, features, BINS)

"""Spectrogram of every cached token's attention over the last queries, reduced by an EMA.

The short-time Fourier transform is one small real matrix multiplied onto overlapping views of the
attention, so a block of any size costs no copy of it and no complex numbers.
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

WINDOW = 32
HOP = 16
BINS = WINDOW // 2 + 1

# Attention values transformed at once. On a CPU the intermediates should stay in its cache, on an
# accelerator few launches matter more.
_CPU_BLOCK, _BLOCK = 2**18, 2**26


@cache
def dft_matrix(dtype: torch.dtype, device: torch.device) -> Float[Tensor, "32 32"]:
    """The Hann-windowed real DFT: 17 rows of real parts, then 15 of imaginary parts.

    The imaginary parts of the first and the last bin are zero for every real signal and are left
    out, which makes the matrix square.
    """
    sample = torch.arange(WINDOW, dtype=torch.float64)
    angle = -2 * torch.pi / WINDOW * torch.arange(BINS, dtype=torch.float64)[:, None] * sample
    hann = 0.5 - 0.5 * (2 * torch.pi / WINDOW * sample).cos()
    rows = torch.cat([angle.cos(), angle[1:-1].sin()]) * hann
    return rows.to(device, dtype)


@cache
def _ema_weights(
    frames: int, gamma: float, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "1 frames"]:
    per_hop = gamma**HOP
    ages = torch.arange(frames - 1, -1, -1, dtype=torch.float64)
    return ((1 - per_hop) * per_hop**ages)[None].to(device, dtype)


def decay(gamma: float, queries: int) -> float:
    """What is left of a token's stored features after `queries` more queries.

    The features after an update are `ema_spectrogram(...) + decay(gamma, queries) * stored`.
    """
    return gamma**queries


@torch.no_grad()
def ema_spectrogram(
    attention: Float[Tensor, "*lead rows tokens"], gamma: float
) -> Float[Tensor, "*lead tokens 17"]:
    """EMA over hops of the magnitude spectrogram of each token's attention column (section 3.1).

    With a = gamma ** 16 and T = (rows - 16) / 16 frames of 32 rows, 16 apart, the result is
    sum over t of (1 - a) a ** (T - 1 - t) |STFT_t|. Takes about twice the memory of one
    [rows, tokens] matrix on top of the input; pass long caches in blocks of tokens.

    Args:
        attention: float32 or float64 probabilities. The first 16 rows are the last queries of
            the window before (zeros when there was none, or for a token that was not cached
            then), the others the new queries, old to new.
        gamma: decay a query.

    Raises:
        ValueError: the new rows are not a positive multiple of 16.
    """
    rows, tokens = attention.shape[-2:]
    if rows < 2 * HOP or rows % HOP:
        raise ValueError(
            f"{rows} rows of attention; give {HOP} carried ones and a positive multiple of {HOP}"
        )
    flat = attention.reshape(-1, rows, tokens)
    together = max(1, (_CPU_BLOCK if attention.is_cpu else _BLOCK) // (rows * tokens))
    reduced = [_reduced(block, gamma).mT for block in flat.split(together)]
    whole = reduced[0] if len(reduced) == 1 else torch.cat(reduced)
    return whole.reshape(*attention.shape[:-2], tokens, BINS)


def _reduced(
    attention: Float[Tensor, "matrices rows tokens"], gamma: float
) -> Float[Tensor, "matrices 17 tokens"]:
    windows = attention.unfold(1, WINDOW, HOP).mT
    squares = torch.matmul(dft_matrix(attention.dtype, attention.device), windows).square_()
    squares[..., 1 : BINS - 1, :] += squares[..., BINS:, :]
    magnitudes = squares[..., :BINS, :].sqrt_().flatten(-2)
    frames = windows.shape[1]
    weights = _ema_weights(frames, gamma, attention.dtype, attention.device)
    return torch.matmul(weights, magnitudes).unflatten(-1, (BINS, -1)).squeeze(1)

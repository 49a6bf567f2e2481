"""Spectrogram of every cached token's attention over the last queries, reduced by an EMA.

The short-time Fourier transform is one small real matrix multiplied onto overlapping views of the
attention, so a block of any size costs no copy of it and no complex numbers.
"""

from functools import cache

import torch
from jaxtyping import Float, Int
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
    frames: int, gammas: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "gammas frames"]:
    ages = torch.arange(frames - 1, -1, -1, dtype=torch.float64)
    rows = [(1 - per_hop) * per_hop**ages for per_hop in (gamma**HOP for gamma in gammas)]
    return torch.stack(rows).to(device, dtype)


def decay(gamma: float, queries: int) -> float:
    """What is left of a token's stored features after `queries` more queries.

    The features after an update are `ema_spectrogram(...) + decay(gamma, queries) * stored`.
    """
    return gamma**queries


@torch.no_grad()
def ema_spectrogram(
    attention: Float[Tensor, "*lead rows tokens"], *gammas: float
) -> Float[Tensor, "*lead tokens bins"]:
    """EMA over hops of the magnitude spectrogram of each token's attention column (section 3.1).

    With a = gamma ** 16 and T = (rows - 16) / 16 frames of 32 rows, 16 apart, the result is
    sum over t of (1 - a) a ** (T - 1 - t) |STFT_t|. Takes about twice the memory of one
    [rows, tokens] matrix on top of the input; pass long caches in blocks of tokens.

    Args:
        attention: float32 or float64 probabilities. The first 16 rows are the last queries of
            the window before (zeros when there was none, or for a token that was not cached
            then), the others the new queries, old to new.
        gammas: decay a query; of several, 17 numbers each.

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
    reduced = [_reduced(block, gammas).mT for block in flat.split(together)]
    whole = reduced[0] if len(reduced) == 1 else torch.cat(reduced)
    return whole.reshape(*attention.shape[:-2], tokens, len(gammas) * BINS)


def _reduced(
    attention: Float[Tensor, "matrices rows tokens"], gammas: tuple[float, ...]
) -> Float[Tensor, "matrices bins tokens"]:
    windows = attention.unfold(1, WINDOW, HOP).mT
    squares = torch.matmul(dft_matrix(attention.dtype, attention.device), windows).square_()
    squares[..., 1 : BINS - 1, :] += squares[..., BINS:, :]
    magnitudes = squares[..., :BINS, :].sqrt_().flatten(-2)
    frames = windows.shape[1]
    weights = _ema_weights(frames, gammas, attention.dtype, attention.device)
    return torch.matmul(weights, magnitudes).unflatten(-1, (BINS, -1)).flatten(1, 2)


def ema_of_ones(age: Int[Tensor, "*tokens"], gamma: float) -> Float[Tensor, "*tokens"]:
    """The first bin's EMA for a token that got an attention of 1 from every query since it came.

    What a token got a query, with the weights of the EMA, is its first bin over this. Only the two
    newest frames can hold part of a token's life; of the older ones the sum is geometric.

    Args:
        age: tokens since the token, 0 for the newest.
        gamma: decay a query.
    """
    per_hop, hann = gamma**HOP, dft_matrix(torch.float64, age.device)[0]
    newest = torch.cat([hann.new_zeros(1), hann.flip(0).cumsum(0)])
    whole = ((age - HOP + 1) // HOP).clamp(min=0)
    partial = sum(
        per_hop ** (whole.double() + late)
        * newest[(age - HOP * (whole + late) + 1).clamp(0, WINDOW).long()]
        for late in (0, 1)
    )
    return newest[-1] * (1 - per_hop ** whole.double()) + (1 - per_hop) * partial

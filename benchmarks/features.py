"""What reading attention costs: a window of 512 queries over a long cache, one layer.

Against attention alone, and against the naive way to the same features: the whole attention matrix
in float32, `torch.stft` of its columns, magnitudes, EMA.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.layers import (
    LLAMA_8B,
    LLAMA_70B,
    TOY,
    WINDOW,
    Shape,
    namm_pruning,
    pass_by,
    pruned_layer,
)
from benchmarks.measure import Row, peak_mb, side_by_side
from transfer.namm.spectrogram import HOP

TITLE = "Attention and features of 512 queries; s (median, fastest, slowest), MB over inputs"
GAMMA = 0.99
SHAPES, KEYS, REPEATS = (TOY, LLAMA_8B, LLAMA_70B), (4096, 16384, 32768), 3


def run() -> list[Row]:
    """One row a shape and length."""
    return [row(shape, tokens) for shape in SHAPES for tokens in KEYS]


def row(shape: Shape, tokens: int) -> Row:
    """Attention alone, ours, naive."""
    torch.manual_seed(0)
    key, value, query = shape.keys(tokens), shape.keys(tokens), shape.queries(WINDOW)
    prepared = {
        "sdpa": lambda: lambda: scaled_dot_product_attention(query, key, value, enable_gqa=True),
        "ours": ours(shape, key, value, query),
        "naive": lambda: lambda: naive(query, key, value),
    }
    slow = {"naive": prepared.pop("naive")}
    times = side_by_side(prepared, REPEATS) | side_by_side(slow, 1)
    prepared |= slow
    peaks = {name: round(peak_mb(prepare, shape.device), 1) for name, prepare in prepared.items()}
    return {
        "shape": shape.name,
        "keys": tokens,
        **{f"{name} s": str(times[name]) for name in prepared},
        "ours / sdpa": round(times["ours"].median / times["sdpa"].median, 2),
        "naive / sdpa": round(times["naive"].median / times["sdpa"].median, 2),
        **{f"{name} MB": peaks[name] for name in prepared},
    }


def ours(shape: Shape, key: Tensor, value: Tensor, query: Tensor) -> Callable:
    """The pruned layer's own way, up to the features; scoring and eviction come later."""
    past = slice(0, key.shape[2] - WINDOW)
    # Half of its update interval: the queries are observed, and the update is not reached.
    layer = pruned_layer(key[:, :, past], value[:, :, past], namm_pruning(2 * WINDOW))
    pass_by(layer, -layer.seen % (2 * WINDOW))

    def prepare() -> Callable[[], Tensor]:
        fresh = copy.deepcopy(layer)
        new = key[:, :, past.stop :], value[:, :, past.stop :]
        fresh.update(*new)
        return lambda: fresh.attend(query, *new, None, shape.dim**-0.5)

    return prepare


def naive(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The formula as it is written in the paper and in its repository."""
    groups = query.shape[1] // key.shape[1]
    wide_key, wide_value = (x.repeat_interleave(groups, 1) for x in (key, value))
    scores = (query @ wide_key.mT).float() * key.shape[-1] ** -0.5
    future = torch.ones(WINDOW, key.shape[2], dtype=torch.bool, device=key.device)
    scores.masked_fill_(future.triu(key.shape[2] - WINDOW + 1), -torch.inf)
    weights = scores.softmax(-1)
    out = weights.to(value.dtype) @ wide_value
    columns = weights.unflatten(1, (-1, groups)).mean(2).mT
    before = columns.new_zeros(*columns.shape[:3], HOP)
    signal = torch.cat([before, columns], -1)
    spectrum = torch.stft(
        signal.flatten(0, 2),
        n_fft=2 * HOP,
        hop_length=HOP,
        window=torch.hann_window(2 * HOP, device=key.device),
        center=False,
        return_complex=True,
    ).abs()
    ages = torch.arange(spectrum.shape[-1] - 1, -1, -1, device=key.device)
    decay = (1 - GAMMA**HOP) * GAMMA ** (HOP * ages)
    return out, spectrum @ decay

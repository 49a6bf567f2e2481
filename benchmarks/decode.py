"""One layer with a long cache: a step of decoding, and a chunk of 512 tokens.

Stock is `DynamicCache` with sdpa, ours the pruned layer: with nothing evicted (`full`), with
everything kept under a NAMM that reads and scores, and with 25 % kept, as unevenly as heads do it.
Our steps are the mean of 128, in which queries are observed twice and rows packed anew as often;
the step with which a window ends is timed apart. Stock's are the mean of 6, all alike.
"""

import copy
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from benchmarks.layers import (
    LLAMA_8B,
    LLAMA_70B,
    UNEVEN,
    WINDOW,
    Shape,
    full_pruning,
    namm_pruning,
    pruned_layer,
    stock_cache,
    with_dtype,
)
from benchmarks.measure import Prepare, Row, Timing, side_by_side
from transfer.cache.layer import PrunedLayer

TITLE = "Attention of one layer, cache included; ms (median, fastest, slowest)"
SHAPES = (LLAMA_8B, LLAMA_70B, with_dtype(LLAMA_70B, torch.bfloat16))
CACHED, STEPS, STOCK_STEPS, CHUNK, CHUNK_OF_STEPS = (4096, 16384), 128, 6, 512, 64
REPEATS = {1: 3, CHUNK: 3}


def run() -> list[Row]:
    """One row a shape, length, and number of new tokens."""
    return [row(shape, cached, new) for shape in SHAPES for cached in CACHED for new in (1, CHUNK)]


def row(shape: Shape, cached: int, new: int) -> Row:
    """Stock, and ours three ways."""
    torch.manual_seed(0)
    key, value = shape.keys(cached), shape.keys(cached)
    layers = {
        "full": pruned_layer(key, value, full_pruning()),
        "all kept": pruned_layer(key, value, namm_pruning()),
        "25% kept": pruned_layer(key, value, namm_pruning(), UNEVEN),
    }
    prepared = {"stock": stock_steps(shape, stock_cache(key, value), new)}
    prepared |= {name: our_steps(shape, layer, new) for name, layer in layers.items()}
    times = side_by_side(prepared, REPEATS[new])
    # Once a window, and not among the steps above: the last of its queries observed, and an update.
    update = {name: update_ms(shape, layer) for name, layer in layers.items()} if new == 1 else {}
    each = dict.fromkeys(layers, 1 if new > 1 else STEPS) | {"stock": 1 if new > 1 else STOCK_STEPS}
    stock = times["stock"].median / each["stock"]
    return {
        "shape": f"{shape.name} {str(shape.dtype).removeprefix('torch.')}",
        "cached": cached,
        "new": new,
        **{f"{name} ms": _milliseconds(times[name], each[name]) for name in prepared},
        **{f"{name} / stock": round(times[name].median / each[name] / stock, 3) for name in layers},
        **{f"{name} window's end ms": update.get(name, "-") for name in list(layers)[1:]},
        **{
            f"{name} bytes": round(held(shape, layers[name]) / (2 * key.nbytes), 3)
            for name in layers
        },
    }


def _milliseconds(timing: Timing, each: int) -> str:
    numbers = (timing.median, timing.low, timing.high)
    middle, low, high = (f"{1e3 * number / each:.3g}" for number in numbers)
    return f"{middle} [{low} {high}]"


def update_ms(shape: Shape, layer: PrunedLayer) -> float:
    """The step with which a window of single tokens ends."""
    fresh = copy.deepcopy(layer)
    for _ in range(WINDOW // CHUNK_OF_STEPS):
        for query, key, value in new_tokens(shape, 1, CHUNK_OF_STEPS):
            fresh.update(key, value)
            began = time.perf_counter()
            fresh.attend(query, key, value, None, shape.dim**-0.5)
            ended = time.perf_counter()
    return round(1e3 * (ended - began), 1)


def held(shape: Shape, layer: PrunedLayer) -> int:
    """Bytes of the layer after one more token, when it has its window's queries too."""
    [(query, key, value)] = new_tokens(shape, 2)
    fresh = copy.deepcopy(layer)
    fresh.update(key[:, :, :1], value[:, :, :1])
    fresh.attend(query[:, :, :1], key[:, :, :1], value[:, :, :1], None, 1.0)
    return fresh.bytes()


def our_steps(shape: Shape, layer: PrunedLayer, new: int) -> Prepare:
    """A copy of the layer, and new tokens through it."""

    def prepare() -> Callable[[], None]:
        fresh, inputs = copy.deepcopy(layer), new_tokens(shape, new)

        def step() -> None:
            for query, key, value in inputs:
                fresh.update(key, value)
                fresh.attend(query, key, value, None, shape.dim**-0.5)

        return step

    return prepare


def stock_steps(shape: Shape, cache: DynamicCache, new: int) -> Prepare:
    """The same through transformers' own code."""
    module = SimpleNamespace(num_key_value_groups=shape.groups, is_causal=True, training=False)

    def prepare() -> Callable[[], None]:
        fresh, inputs = copy.deepcopy(cache), new_tokens(shape, new, STOCK_STEPS)

        def step() -> None:
            for query, key, value in inputs:
                keys, values = fresh.update(key, value, 0)
                mask = _causal(new, keys) if new > 1 else None
                sdpa_attention_forward(module, query, keys, values, mask, scaling=shape.dim**-0.5)

        return step

    return prepare


def _causal(new: int, keys: Tensor) -> Tensor:
    tokens = keys.shape[2]
    visible = torch.ones(new, tokens, dtype=torch.bool, device=keys.device)
    return visible.tril(tokens - new)[None, None]


def new_tokens(shape: Shape, new: int, steps: int = STEPS) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Queries, keys and values of one chunk, or of some single tokens."""
    calls = 1 if new > 1 else steps
    return [(shape.queries(new), shape.keys(new), shape.keys(new)) for _ in range(calls)]

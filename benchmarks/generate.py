"""End to end: `generate()` with the full cache and under the shipped NAMM, by length of context.

A shipped model reads the whole context. The model of Llama's 1B shape finds all but the last 512
tokens of it in a cache filled at random, and reads those: what the next chunk of a prompt costs at
that length. Then some tokens are generated. Stock is transformers' own cache and sdpa.
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks.layers import WINDOW, Shape, namm_pruning, pruned_layer
from benchmarks.measure import Row, process_peak, reset_peak
from transfer.adapters.language_model import load_language_model
from transfer.attachment.memory import attach
from transfer.cache.cache import PrunedCache

TITLE = "generate(): s to read, ms a token (median, fastest, slowest); peak MB beyond the weights"
KEPT: tuple[float | None, ...] = (None, 0.5, 0.25, 0.1)
REPEATS = 2


@dataclass(frozen=True)
class Setting:
    """A model, the lengths of context, tokens generated, update interval, tokens not read."""

    name: str
    lengths: tuple[int, ...]
    new: int
    update_interval: int
    read_before: bool = False


SHIPPED = Setting("llama-recall", (256, 1024), 64, 64)
WIDE = Setting("llama-recall-wide", (256, 1024), 64, 64)
LLAMA_1B = Setting("Llama 1B, random weights", (1024, 4096, 16384, 32768), 8, WINDOW, True)


@dataclass(frozen=True)
class Run:
    """Seconds to read, seconds a token, bytes of the cache then, bytes at the peak."""

    read: float
    token: float
    cache: int
    peak: int


def run() -> list[Row]:
    """The shipped models."""
    return rows(SHIPPED) + rows(WIDE)


def run_1b() -> list[Row]:
    """The shape of Llama 3.2 1B, in float32."""
    return rows(LLAMA_1B)


def rows(setting: Setting) -> list[Row]:
    """One row a length and share kept; the shares take turns."""
    model = load(setting)
    # What is slow once is not what is measured.
    one_run(model, setting, WINDOW, 0.5)
    return [row for length in setting.lengths for row in rows_at(model, setting, length)]


def rows_at(model: PreTrainedModel, setting: Setting, length: int) -> list[Row]:
    """Of one length, the full cache first."""
    runs: dict[float | None, list[Run]] = {kept: [] for kept in KEPT}
    for _ in range(REPEATS):
        for kept in KEPT:
            runs[kept].append(one_run(model, setting, length, kept))
    full = runs[None]
    return [
        {
            "model": setting.name,
            "context": length,
            "kept": "all" if kept is None else f"{kept:.0%}",
            "read s": spread([run.read for run in some]),
            "ms a token": spread([1e3 * run.token for run in some]),
            "tokens/s": round(1 / median(run.token for run in some), 2),
            "cache MB": round(some[-1].cache / 1e6, 3),
            "peak MB": round(max(run.peak for run in some) / 1e6, 1),
            "read / full": ratio(some, full, "read"),
            "token / full": ratio(some, full, "token"),
            "cache / full": ratio(some, full, "cache"),
        }
        for kept, some in runs.items()
    ]


def spread(values: Sequence[float]) -> str:
    """Median, fastest, slowest."""
    return f"{median(values):.3g} [{min(values):.3g} {max(values):.3g}]"


def ratio(some: list[Run], full: list[Run], field: str) -> float:
    """Of the medians."""
    ours, theirs = (median(getattr(run, field) for run in runs) for runs in (some, full))
    return round(ours / theirs, 3)


def load(setting: Setting) -> PreTrainedModel:
    """A shipped model, or one of the 1B shape of Llama 3.2 with random weights."""
    if not setting.read_before:
        return load_language_model(setting.name).model
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=131072,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    return model


@torch.no_grad()
def one_run(model: PreTrainedModel, setting: Setting, length: int, kept: float | None) -> Run:
    """Read what is not in the cache yet, then generate."""
    ids = torch.randint(model.config.vocab_size, (1, length))
    before = length - WINDOW if setting.read_before else 0
    cache = filled_cache(model, setting, before, kept)
    pruning = (
        attach(model, namm_pruning().policy, setting.update_interval, kept)
        if kept
        else nullcontext()
    )
    with pruning:
        resident = reset_peak() - cache_bytes(cache)
        began = time.perf_counter()
        ids = generate(model, ids, cache, 1)
        read = time.perf_counter()
        generate(model, ids, cache, setting.new)
        ended = time.perf_counter()
        peak = process_peak() - resident
    return Run(read - began, (ended - read) / setting.new, cache_bytes(cache), peak)


def filled_cache(
    model: PreTrainedModel, setting: Setting, tokens: int, kept: float | None
) -> DynamicCache:
    """A cache that holds what is left of so many random tokens."""
    config, pruning = model.config, namm_pruning(setting.update_interval, kept)
    cache = PrunedCache(config, pruning) if kept else DynamicCache(config=config)
    if not tokens:
        return cache
    heads = config.num_key_value_heads
    shape = Shape("", heads, config.num_attention_heads // heads, config.head_dim)
    for index in range(config.num_hidden_layers):
        key, value = shape.keys(tokens), shape.keys(tokens)
        if kept:
            cache.layers[index] = pruned_layer(key, value, pruning, (kept,) * heads, index)
        else:
            cache.update(key, value, index)
    return cache


def generate(model: PreTrainedModel, ids: Tensor, cache: DynamicCache, new: int) -> Tensor:
    """So many tokens after these, greedily."""
    return model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        cache=cache,
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        prefill_chunk_size=WINDOW,
        pad_token_id=0,
    )


def cache_bytes(cache: DynamicCache) -> int:
    """What it holds."""
    if isinstance(cache, PrunedCache):
        return cache.bytes()
    filled = [layer for layer in cache.layers if layer.is_initialized]
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in filled)

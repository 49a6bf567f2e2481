"""One whole layer of Llama 3 70B in bfloat16: attention, projections and all.

Stock is `DynamicCache` with sdpa; ours evicts nothing (`full`), or keeps everything under a NAMM
that reads all attention, or 25 % as unevenly as heads do it. Scores are made at the end of the
chunk.
"""

import copy
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.layers import (
    LLAMA_70B,
    UNEVEN,
    full_pruning,
    namm_pruning,
    pruned_layer,
    stock_cache,
    with_dtype,
)
from benchmarks.measure import Prepare, Row, side_by_side
from transfer.attachment.memory import attach
from transfer.cache.cache import PrunedCache
from transfer.cache.layer import PrunedLayer

TITLE = "One layer of Llama 3 70B, bfloat16; seconds (median, fastest, slowest)"
CACHED, CHUNK = (4096, 16384), 512
REPEATS = {1: 5, CHUNK: 2}
SHAPE = with_dtype(LLAMA_70B, torch.bfloat16)
SIZES = {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64}


def run() -> list[Row]:
    """One row a length and number of new tokens."""
    model = one_layer()
    return [row(model, cached, new) for cached in CACHED for new in (1, CHUNK)]


def one_layer() -> LlamaForCausalLM:
    """860 million random parameters; the vocabulary is small, so that the layer is all there is."""
    config = LlamaConfig(
        vocab_size=256,
        num_hidden_layers=1,
        num_key_value_heads=8,
        **SIZES,
        max_position_embeddings=131072,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.02, 0.02)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval()


@torch.no_grad()
def row(model: LlamaForCausalLM, cached: int, new: int) -> Row:
    """Stock, and ours three ways."""
    key, value = SHAPE.keys(cached), SHAPE.keys(cached)
    ids = torch.randint(256, (1, new))
    prepared: dict[str, Prepare] = {"stock": stock(model, key, value, ids)}
    layers = {
        "full": pruned_layer(key, value, full_pruning()),
        "all kept": pruned_layer(key, value, namm_pruning()),
        "25% kept": pruned_layer(key, value, namm_pruning(), UNEVEN),
    }
    prepared |= {name: ours(model, ids, layer) for name, layer in layers.items()}
    times = side_by_side(prepared, REPEATS[new])
    return {
        "cached": cached,
        "new": new,
        **{f"{name} s": str(timing) for name, timing in times.items()},
        **{
            f"{name} / stock": round(times[name].median / times["stock"].median, 3)
            for name in prepared
            if name != "stock"
        },
    }


def stock(
    model: LlamaForCausalLM, key: torch.Tensor, value: torch.Tensor, ids: torch.Tensor
) -> Prepare:
    """The model as it is."""

    def prepare() -> Callable[[], object]:
        cache = stock_cache(key, value)
        return lambda: model(ids, cache=cache, logits_to_keep=1)

    return prepare


def ours(model: LlamaForCausalLM, ids: torch.Tensor, layer: PrunedLayer) -> Prepare:
    """The model attached, its cache already at an update."""

    def prepare() -> Callable[[], object]:
        cache = PrunedCache(model.config, layer.pruning)
        cache.layers = [copy.deepcopy(layer)]

        def step() -> None:
            with attach(model, layer.pruning.policy):
                model(ids, cache=cache, logits_to_keep=1)

        return step

    return prepare

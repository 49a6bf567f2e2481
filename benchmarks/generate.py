"""End to end: `generate()` with the full cache and under the shipped NAMM, as a context grows.

One conversation for each share kept: the context is read on from length to length in chunks of 512
tokens, and at each length some tokens are generated. Prefill seconds are of the whole context.
Stock is transformers' own cache and sdpa.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks.measure import Row, process_peak, reset_peak
from transfer.adapters.language_model import load_language_model
from transfer.adapters.memory import Memory, attach
from transfer.cache.cache import PrunedCache
from transfer.namm.network import NAMM

TITLE = "generate() as the context grows; peak MB beyond the model's weights"
KEPT: tuple[float | None, ...] = (None, 0.5, 0.25, 0.1)
CHUNK = 512


@dataclass(frozen=True)
class Setting:
    """A model, the lengths at which it generates, how many tokens there, its update interval."""

    name: str
    lengths: tuple[int, ...]
    new: int
    n_up: int


SHIPPED = Setting("llama-recall", (256, 1024), 64, 64)
WIDE = Setting("llama-recall-wide", (256, 1024), 64, 64)
LLAMA_1B = Setting("Llama 1B, random weights", (1024, 4096, 8192, 16384, 32768), 8, 512)


def run() -> list[Row]:
    """The shipped models."""
    return rows(SHIPPED) + rows(WIDE)


def run_1b() -> list[Row]:
    """The shape of Llama 3.2 1B; takes over an hour."""
    return rows(LLAMA_1B)


def rows(setting: Setting) -> list[Row]:
    """One row a length and share kept; at each length the shares take turns."""
    model = load(setting)
    random = torch.Generator().manual_seed(1)
    document = torch.randint(model.config.vocab_size, (1, max(setting.lengths)), generator=random)
    # What is slow once is not what is measured.
    _generate(model, document[:, :CHUNK], DynamicCache(config=model.config), 2)
    talks = [Talk(model, setting, document, kept) for kept in KEPT]
    found = []
    for length in setting.lengths:
        found += [talk.go_on(length) for talk in talks]
        for row in found[-len(talks) :]:
            for new, old in (
                ("prefill / full", "prefill s"),
                ("token / full", "ms a token"),
                ("cache / full", "cache MB"),
                ("peak / full", "peak MB"),
            ):
                row[new] = round(float(row[old]) / float(found[-len(talks)][old]), 3)
    return found


def load(setting: Setting) -> PreTrainedModel:
    """A shipped model, or one of the 1B shape of Llama 3.2 with random weights."""
    if setting is not LLAMA_1B:
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


class Talk:
    """One conversation: what was read and generated so far, and its cache."""

    def __init__(
        self, model: PreTrainedModel, setting: Setting, document: Tensor, kept: float | None
    ) -> None:
        self.model, self.setting, self.document, self.kept = model, setting, document, kept
        self.ids = document[:, :0]
        self.prefill, self.peak = 0.0, 0
        with self._attached() as memory:
            self.cache = memory.new_cache() if memory else DynamicCache(config=model.config)

    def _attached(self) -> AbstractContextManager[Memory | None]:
        if self.kept is None:
            return nullcontext()
        return attach(self.model, NAMM.from_pretrained("recall"), self.setting.n_up, self.kept)

    def go_on(self, length: int) -> Row:
        """Read on to this length, then generate."""
        held, resident, new = _bytes(self.cache), reset_peak(), self.setting.new
        ids = torch.cat([self.ids, self.document[:, self.ids.shape[1] : length]], 1)
        with self._attached():
            began = time.perf_counter()
            ids = _generate(self.model, ids, self.cache, 1)
            read = time.perf_counter()
            self.ids = _generate(self.model, ids, self.cache, new)
            ended = time.perf_counter()
        self.prefill += read - began
        # What the other conversations hold is resident too, and not counted.
        self.peak = max(self.peak, held + process_peak() - resident)
        return {
            "model": self.setting.name,
            "context": length,
            "kept": "all" if self.kept is None else f"{self.kept:.0%}",
            "prefill s": round(self.prefill, 2),
            "ms a token": round(1e3 * (ended - read) / new, 2),
            "tokens/s": round(new / (ended - read), 2),
            "cache MB": round(_bytes(self.cache) / 1e6, 3),
            "peak MB": round(self.peak / 1e6, 1),
        }


def _generate(model: PreTrainedModel, ids: Tensor, cache: DynamicCache, new: int) -> Tensor:
    return model.generate(
        ids.to(model.device),
        attention_mask=torch.ones_like(ids, device=model.device),
        cache=cache,
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        prefill_chunk_size=CHUNK,
        pad_token_id=0,
    ).cpu()


def _bytes(cache: DynamicCache) -> int:
    if isinstance(cache, PrunedCache):
        return cache.bytes()
    filled = [layer for layer in cache.layers if layer.is_initialized]
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in filled)

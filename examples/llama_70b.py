"""Llama 3 70B, or any causal language model, sharded, while a NAMM prunes its cache.

    python examples/llama_70b.py MODEL --prompt question.txt
    torchrun --nproc-per-node 8 examples/llama_70b.py MODEL --prompt question.txt

MODEL: a hub id such as meta-llama/Llama-3.3-70B-Instruct, a folder, or llama-recall, which ships.
In one process accelerate (`pip install accelerate`) lays whole layers on the devices, then in
memory and on disk; under torchrun each process holds a slice of every layer (tensor parallel).
Quantised checkpoints need nothing special: keys and values are cached as they are computed.
"""

import os
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import torch.distributed as dist
import tyro
from torch import Tensor
from transformers.distributed import DistributedConfig

from transfer import NAMM, attach
from transfer.adapters.language_model import LanguageModel, load_language_model
from transfer.cache.cache import PrunedCache
from transfer.tasks.recall import TASKS, make_batch

RANK = int(os.environ.get("RANK", "0"))


class Clock(list[float]):
    """A streamer of `generate`: when it began, and when each token was there."""

    def put(self, value: Tensor) -> None:
        """Called with the prompt, then with each token."""
        self.append(perf_counter())

    def end(self) -> None:
        """Called at the end."""


def load(name: str, max_memory: dict[str, str]) -> LanguageModel:
    """Under torchrun a slice of every layer, else whole layers on whatever there is."""
    if "RANK" in os.environ:
        return load_language_model(name, distributed_config=DistributedConfig(tp_plan="auto"))
    most = {int(key) if key.isdigit() else key: size for key, size in max_memory.items()}
    return load_language_model(name, device_map="auto", max_memory=most or None)


def encode(language: LanguageModel, prompt: Path | None) -> Tensor:
    """Token ids of the prompt; for a model of symbols, of a document that ends in a question."""
    if language.tokenizer is None:
        return make_batch(TASKS["recall"], length=500, seeds=[1]).ids[:, :-2]
    if prompt is None:
        raise SystemExit("this model reads text: give it some with --prompt FILE")
    text = prompt.read_text()
    if language.tokenizer.chat_template is None:
        return language.tokenizer(text, return_tensors="pt")["input_ids"]
    turn = [{"role": "user", "content": text}]
    return language.tokenizer.apply_chat_template(
        turn, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]


def savings(cache: PrunedCache) -> str:
    """Bytes held and of the full cache, by layer, by device and in all, over all processes."""
    rows = []
    for layer in cache.pruned:
        names = f"layer {layer.index}", f"rank {RANK} {layer.tensors()[0].device}", "all"
        rows.append((*names, layer.bytes() / 1e6, layer.full_bytes() / 1e6))
    if dist.is_initialized():
        # Each process knows its own heads only.
        gathered = [rows] * dist.get_world_size()
        dist.all_gather_object(gathered, rows)
        rows = [row for some in gathered for row in some]
    lines = []
    for column in range(3):
        for name in dict.fromkeys(row[column] for row in rows):
            held, full = (sum(row[i] for row in rows if row[column] == name) for i in (3, 4))
            lines.append(f"{name:>14}: {held:9.3f} MB held, {full:9.3f} MB by the full cache")
    return "\n".join(lines)


def main(
    model: tyro.conf.Positional[str],
    prompt: Path | None = None,
    namm: str = "recall",
    update_interval: Annotated[int, tyro.conf.arg(aliases=["--n-up"])] = 512,
    budget: int | float | None = None,
    max_new_tokens: int = 200,
    prefill_chunk_size: int = 4096,
    max_memory: dict[str, str] = {},  # noqa: B006
) -> None:
    """Answer a prompt, and say what pruning the cache saved.

    Args:
        model: a hub id, a folder or a shipped name.
        prompt: a text file. A model of symbols reads a document of the recall task instead.
        namm: a shipped name, a folder or a hub id.
        update_interval: tokens between two updates of the cache.
        budget: tokens each head keeps, or a fraction of those seen; None: as the NAMM decides.
        max_new_tokens: of the answer.
        prefill_chunk_size: tokens of the prompt that are read at once.
        max_memory: for weights, by device, as `0 70GiB cpu 200GiB`; leave some for the cache.
    """
    language, clock = load(model, max_memory), Clock()
    ids = encode(language, prompt).to(language.model.device)
    with attach(language.model, NAMM.from_pretrained(namm), update_interval, budget) as memory:
        cache = memory.new_cache()
        out = language.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            cache=cache,
            max_new_tokens=max_new_tokens,
            prefill_chunk_size=prefill_chunk_size,
            # Processes that draw for themselves would go on with different tokens.
            do_sample=False,
            streamer=clock,
        )
    answer, table = out[0, ids.shape[1] :].tolist(), savings(cache)
    tokenizer = language.tokenizer
    if dist.is_initialized():
        dist.destroy_process_group()
    if RANK == 0:
        print(tokenizer.decode(answer, skip_special_tokens=True) if tokenizer else answer)
        read, said = clock[1] - clock[0], max(clock[-1] - clock[1], 1e-9)
        print(f"{ids.shape[1]} tokens read, {ids.shape[1] / read:.1f} a second")
        print(f"{len(answer)} tokens generated, {(len(answer) - 1) / said:.1f} a second")
        print(table)


if __name__ == "__main__":
    tyro.cli(main)

"""A pretrained model: reading a prompt, a token after it, and memory, by length and policy.

    python -m benchmarks real --model smollm2-135m --length 1024 4096

Stock is transformers' own cache and sdpa. The sides take turns, and each ratio is of one run. Times
are CPU seconds of the one thread, which on a busy machine are nearer to those of an idle one. Each
measurement is a process of its own that shares the weights, so that its peak is its own.

Most of a token's time goes into the weights, whatever the cache: the row of 64 tokens says how
much, and no policy can be faster than that.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.generate import cache_bytes
from benchmarks.kvpress_measure import in_a_fork
from benchmarks.measure import Row, process_peak, reset_peak
from transfer.adapters.language_model import load_language_model
from transfer.adapters.scoring import positions_of
from transfer.attachment.memory import attach
from transfer.cache.policy import Policy
from transfer.errors import UserError, check_at_least
from transfer.evaluation.contenders import NAMMs, Spelling
from transfer.tasks.prose import sentences

TITLE = "A real model: s to read, ms a token (median, least), peak MB beyond the weights; CPU time"
KEPT = 0.25
#: Tokens of which each is timed; no update falls among them.
NEW = 24
#: So short that a token costs what the weights cost.
FLOOR = 64


@dataclass(frozen=True)
class Side:
    """Who prunes, and how often; stock: nobody."""

    policy: str | None = None
    interval: int = 0


STOCK = Side()
SIDES = (STOCK, *(Side(who, often) for who in ("namm:recall", "h2o") for often in (512, 64)))


@dataclass(frozen=True)
class Run:
    """Seconds to read, seconds of each token, bytes of the cache then, and at the peak."""

    read: float
    tokens: list[float]
    cache: int
    peak: int


def run(arguments: Sequence[str] = ()) -> list[Row]:
    """One row a length and side, after the floor.

    Raises:
        UserError: there is no such model, it has no tokenizer, one that does not read English, or
            too few positions, or nothing is to be repeated.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks real")
    parser.add_argument("--model", default="smollm2-135m", help="shipped name, folder or hub id")
    parser.add_argument("--length", type=int, nargs="+", default=[1024, 4096, 8000])
    parser.add_argument("--repeats", type=int, default=3)
    told = parser.parse_args(arguments)
    check_at_least(1, told, "repeats")
    language = load_language_model(told.model, dtype=torch.float32)
    if language.tokenizer is None:
        raise UserError(f"{told.model} is a model of symbols; python -m benchmarks generate has it")
    most = positions_of(language.model) - NEW
    for length in told.length:
        if not FLOOR <= length <= most:
            raise UserError(f"--length is {length}; use {FLOOR} to {most} tokens")
    ids = text_ids(language.tokenizer, max(told.length))
    floor = in_a_fork(one_run, language.model, ids[:, :FLOOR], STOCK)
    rows = [row(language.name, FLOOR, STOCK, [floor], [floor])]
    for length in told.length:
        rows += rows_at(language.model, language.name, ids[:, :length], told.repeats)
    return rows


def text_ids(tokenizer: PreTrainedTokenizerBase, length: int) -> Int[Tensor, "1 tokens"]:
    """Prose of so many tokens.

    Raises:
        UserError: the tokenizer makes none.
    """
    text = " ".join(sentences())
    ids = torch.tensor([tokenizer(text, verbose=False)["input_ids"]], dtype=torch.long)
    if not ids.numel():
        raise UserError(
            "the tokenizer makes no tokens of English; use a model whose tokenizer does"
        )
    return ids.repeat(1, -(-length // ids.shape[1]))[:, :length]


def rows_at(
    model: PreTrainedModel, name: str, ids: Int[Tensor, "1 tokens"], repeats: int
) -> list[Row]:
    """Of one length, stock first; the sides take turns."""
    runs: dict[Side, list[Run]] = {side: [] for side in SIDES}
    for _ in range(repeats):
        for side in SIDES:
            runs[side].append(in_a_fork(one_run, model, ids, side))
    return [row(name, ids.shape[1], side, some, runs[STOCK]) for side, some in runs.items()]


def row(name: str, length: int, side: Side, some: list[Run], stock: list[Run]) -> Row:
    """What was measured, and beside stock."""
    read, token = (median(run.read for run in some), median(tokens(some)))
    return {
        "model": name,
        "context": length,
        "policy": side.policy or "stock",
        "interval": side.interval or "-",
        "kept": f"{KEPT:.0%}" if side.policy else "all",
        "read s": f"{read:.3g} [{min(run.read for run in some):.3g}]",
        "ms a token": f"{1e3 * token:.3g} [{1e3 * min(tokens(some)):.3g}]",
        "cache MB": round(some[-1].cache / 1e6, 2),
        "peak MB": round(median(run.peak for run in some) / 1e6),
        "read / stock": round(read / median(run.read for run in stock), 3),
        "token / stock": round(token / median(tokens(stock)), 3),
        "cache / stock": round(some[-1].cache / stock[-1].cache, 3),
    }


def tokens(some: list[Run]) -> list[float]:
    """Seconds of every token of some runs."""
    return [seconds for run in some for seconds in run.tokens]


@torch.no_grad()
def one_run(model: PreTrainedModel, ids: Int[Tensor, "1 tokens"], side: Side) -> Run:
    """Read the prompt in one call, then take tokens one by one."""
    torch.set_num_threads(1)
    # What is slow once is not what is measured.
    model(ids[:, :FLOOR], use_cache=False)
    pruning = attach(model, policy_of(side), side.interval, KEPT) if side.policy else nullcontext()
    with pruning as memory:
        resident = reset_peak()
        cache = memory.new_cache() if memory else DynamicCache(config=model.config)
        read = timed(model, ids, cache)
        each = [timed(model, ids[:, place : place + 1], cache) for place in range(NEW)]
        return Run(read, each, cache_bytes(cache), process_peak() - resident)


def policy_of(side: Side) -> Policy:
    """As it is spelled."""
    assert side.policy
    [(_, policy)] = Spelling.of(side.policy).policies(NAMMs(()))
    return policy


def timed(model: PreTrainedModel, ids: Int[Tensor, "1 tokens"], cache: DynamicCache) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    model(ids, cache=cache, use_cache=True, logits_to_keep=1)
    return time.process_time() - began

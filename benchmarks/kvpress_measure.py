"""What `benchmarks.kvpress` measures, by the same code in both environments.

Like `measure`, it imports nothing but torch and the standard library: it runs where our package
is not installed.
"""

import multiprocessing
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from statistics import fmean, median
from typing import Any

from torch import Tensor, nn

from benchmarks.measure import process_peak, reset_peak

#: Tokens of one timing of decoding, and timings, of which the median counts.
TOKENS, BLOCKS = 64, 3
#: Runs the model on token ids `[1, tokens]` from a position on; returns the last one's logits.
Step = Callable[[Tensor, int], Tensor]


def held_bytes(*roots: object) -> int:
    """Bytes of every distinct tensor storage that can be reached from here, modules left out.

    No tool is asked for its own account. A pruned cache reaches its policy's parameters (a NAMM's
    few KB), too.
    """
    storages, met, waiting = {}, set(), list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in met or isinstance(thing, nn.Module | type):
            continue
        met.add(id(thing))
        if isinstance(thing, Tensor):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        elif isinstance(thing, list | tuple | set):
            waiting += thing
        else:
            fields = thing if isinstance(thing, dict) else getattr(thing, "__dict__", {})
            waiting += fields.values()
    return sum(storages.values())


def tokens_held(cache: Any) -> float:
    """Mean tokens whose keys are in memory, over layers and heads; masked ones are."""
    if hasattr(cache, "kept"):
        return fmean(n for layer in cache.kept() for sequence in layer for n in sequence)
    return fmean(layer.keys.shape[2] for layer in cache.layers)


def timed(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """The result, and CPU seconds: of one thread as long as wall time on an idle machine."""
    began = time.process_time()
    result = function(*args)
    return result, time.process_time() - began


def decode(step: Step, token: Tensor, first: int, count: int) -> Tensor:
    """Feed `token`, then `count - 1` greedy ones; returns the token after them."""
    for position in range(first, first + count):
        token = step(token, position).argmax(-1, keepdim=True)
    return token


def measure(
    step: Step,
    cache: Any,
    ids: Tensor,
    prefilling: Callable[[], AbstractContextManager[Any]],
    beside: Callable[[], list[object]],
) -> dict[str, float]:
    """Prefill `ids` in one call, then decode greedily.

    Args:
        step: the model on `cache`, which is empty.
        prefilling: entered for the prefill alone.
        beside: what is kept outside of the cache to use it.
    """
    before, context = reset_peak(), ids.shape[1]
    with prefilling():
        logits, prefill = timed(step, ids, 0)
    kept, held = tokens_held(cache) / context, held_bytes(cache, beside())
    token, seconds = logits.argmax(-1, keepdim=True), []
    for first in range(context, context + BLOCKS * TOKENS, TOKENS):
        token, taken = timed(decode, step, token, first, TOKENS)
        seconds.append(taken / TOKENS)
    return {
        "kept": kept,
        "prefill_s": prefill,
        "decode_s": median(seconds),
        "bytes": held,
        "end_bytes": held_bytes(cache, beside()),
        "peak_bytes": process_peak() - before,
        "logit": logits.max().item(),
    }


def update_seconds(step: Step, ids: Tensor, seen: int, interval: int) -> float:
    """A decoding step at which an update is due; any tokens until then go in at once."""
    due = interval - seen % interval
    step(ids[:, : due - 1], seen)
    return timed(step, ids[:, due - 1 : due], seen + due - 1)[1]


def in_a_fork(function: Callable[..., Any], *args: Any) -> Any:
    """Call in a process of its own, which shares the imports and the model that are loaded."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(function(*args)))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()

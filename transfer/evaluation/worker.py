"""Does the blocks of one benchmark, in whichever process: contender by contender, item by item."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from transfer.errors import UserError
from transfer.evaluation.benchmark import ROW_FIELDS, Benchmark, Block, Row
from transfer.evaluation.contenders import Contender
from transfer.evaluation.options import EvalConfig
from transfer.evaluation.threshold import thresholds_of
from transfer.plugins import BENCHMARKS


@dataclass(frozen=True)
class Job:
    """One block under some contenders, by their places in the benchmark's lists."""

    block: int
    contenders: tuple[int, ...]


class BlockWorker:
    """Holds a benchmark, its model with it.

    Args:
        config: of the evaluation.

    Attributes:
        benchmark: made from it.
        contenders: who is compared.
        blocks: everything that is asked.
        items: of every block, by its name and contender.

    Raises:
        UserError: whatever is wrong with the model, the task, the data or a policy.
    """

    def __init__(self, config: EvalConfig) -> None:
        self.benchmark: Benchmark = BENCHMARKS.get(config.benchmark)(config)
        for threshold in thresholds_of(config):
            threshold.check_model(self.benchmark.model, self.benchmark.weights())
        self.contenders = list(self.benchmark.contenders())
        self.blocks = list(self.benchmark.blocks())
        _check_shape(self.benchmark, self.contenders, self.blocks)
        _check_names(self.benchmark, self.blocks)
        self.items = {
            (block.name, *one.key): {item["item"] for item in block.items}
            for block in self.blocks
            for one in self.contenders
        }

    def rows(self, job: Job) -> list[Row]:
        """All rows of a job; what a worker process is asked for."""
        return list(self.stream(job))

    def stream(self, job: Job) -> Iterator[Row]:
        """The rows of a job, contender by contender, each as soon as its item has ended."""
        block = self.blocks[job.block]
        contenders = [self.contenders[number] for number in job.contenders]
        try:
            ready = self.benchmark.prepared(block)
        except (UserError, MemoryError, RuntimeError) as error:
            reason = failure(error)
            for contender in contenders:
                yield from self._failed(block, contender, block.items, reason)
            return
        for contender in contenders:
            yield from self._under(block, ready, contender)

    def _under(self, block: Block, ready: Any, contender: Contender) -> Iterator[Row]:
        """The rows of one contender; what it cannot do fails from there on."""
        left = {item["item"]: item for item in block.items}
        try:
            for row in self._measured(block, ready, contender):
                del left[row["item"]]
                yield row
            if left:
                raise UserError(f"{type(self.benchmark).__name__} gave it no row")
        except (UserError, MemoryError, RuntimeError) as error:
            yield from self._failed(block, contender, list(left.values()), failure(error))

    def _failed(
        self, block: Block, contender: Contender, items: Sequence[Row], reason: str
    ) -> Iterator[Row]:
        for item in items:
            yield self._row(block, contender, item, {"failure": reason})

    def _measured(self, block: Block, ready: Any, contender: Contender) -> Iterator[Row]:
        items, began = {item["item"]: item for item in block.items}, time.perf_counter()
        for found in self.benchmark.rows(ready, contender):
            now = time.perf_counter()
            item = items.get(found["item"])
            lacking = [name for name in self.benchmark.metrics if name not in found]
            if item is None or (lacking and found.get("failure") is None):
                what = "is of no item of its block" if item is None else f"lacks {lacking[0]}"
                raise UserError(f"a row of {type(self.benchmark).__name__} {what}: {found}")
            yield self._row(block, contender, item, {"seconds": now - began, **found})
            began = now

    def _row(self, block: Block, contender: Contender, item: Row, found: Row) -> Row:
        metrics = self.benchmark.metrics
        if found.get("failure") is None:
            found = {**found, "failure": _not_finite(item, found, metrics)}
        found = {**_shares(found), "held_end": found.get("kept_tokens"), **found}
        about = {"model": self.benchmark.model, **item, "policy": contender.name}
        row = {**about, **contender.settings, **found, "block": block.name}
        if row["failure"] is not None:
            row |= dict.fromkeys(metrics)
        return {**dict.fromkeys(ROW_FIELDS), **row}


def _shares(found: Row) -> Row:
    """What is held as shares of the full cache's: at the end, at the peak, on average."""
    tokens = found.get("tokens") or 0
    # The full cache holds 1, 2, 3 ... tokens.
    of = {"kept_tokens": tokens, "held_peak": tokens, "held_mean": (tokens + 1) / 2}
    shares = zip(("kept", "held_peak_share", "held_mean_share"), of.items())
    return {
        share: found[name] / full
        for share, (name, full) in shares
        if tokens and found.get(name) is not None
    }


def _check_shape(
    benchmark: Benchmark, contenders: Sequence[Contender], blocks: Sequence[Block]
) -> None:
    """What a benchmark from outside may have left out is said before the first item."""
    name = type(benchmark).__name__
    for attribute in ("model", "metrics"):
        if not getattr(benchmark, attribute, None):
            raise UserError(f"{name} has no {attribute}; set it, see transfer.Benchmark")
    for what, things in (("contenders", contenders), ("blocks", blocks)):
        if not things:
            raise UserError(f"{name} has no {what}; there is nothing to run")


def _check_names(benchmark: Benchmark, blocks: Sequence[Block]) -> None:
    """Rows are paired and resumed by these names, so a name of two would mix them up."""
    fields = ("task", *benchmark.keys, "item")
    names = {
        "block": [block.name for block in blocks],
        "item": [tuple(item[each] for each in fields) for block in blocks for item in block.items],
    }
    for what, given in names.items():
        twice = [name for name, times in Counter(given).items() if times > 1]
        if twice:
            raise UserError(
                f"{type(benchmark).__name__} has more than one {what} {twice[0]!r}; give each a"
                " name of its own"
            )


def failure(error: Exception) -> str:
    """Why an item failed, if this is what one item may do to a run without ending it.

    Raises:
        Exception: the error itself, if it is not.
    """
    if isinstance(error, UserError):
        return str(error)
    # On a CPU torch says that there is no memory in words alone.
    scarce = (torch.OutOfMemoryError, MemoryError)
    if isinstance(error, scarce) or "allocate memory" in str(error):
        what = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
        return f"too little memory ({what}); use shorter inputs, or fewer at once"
    raise error


def _not_finite(item: Row, found: Row, metrics: Sequence[str]) -> str | None:
    wrong = [n for n in metrics if found[n] is not None and not math.isfinite(found[n])]
    if not wrong:
        return None
    return f"item {item['item']}: {wrong[0]} is {found[wrong[0]]}; use another --dtype"

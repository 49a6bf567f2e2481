"""The documents of one `transfer eval` for language: which policies read them, measured how."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from transfer.adapters.language_model import LanguageModel, load_language_model
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.footprint import LayerShape
from transfer.errors import UserError
from transfer.evaluation.blocks import Block, BlockFolder
from transfer.evaluation.digest import model_digest, namm_digests, path_digest
from transfer.evaluation.equal_bytes import EqualBytes
from transfer.evaluation.language import RECORDS, LanguageEval
from transfer.evaluation.readers import Reader, plan_readers
from transfer.evaluation.results import Row
from transfer.tasks.base import TokenBatch
from transfer.tasks.recall import get_task, make_batch
from transfer.tasks.records import Record, encode_record, read_records
from transfer.tasks.scoring import check_length, score_batch
from transfer.tasks.text import language_for

#: Task, length (None: of a file, each its own), policy and budget.
Key = tuple[str, int | None, str, int | float | None]
METRICS = ("correct", "answer_probability", "log_likelihood")


@dataclass(frozen=True)
class LanguageBlock(Block):
    """Documents that are read together."""

    task: str
    length: int | None
    budget: int | float | None
    policy: str


def plan(config: LanguageEval, equal: EqualBytes | None = None) -> list[Reader]:
    """The full cache, then every policy at every budget, or at the bytes of the NAMM's.

    Raises:
        UserError: unknown policy or NAMM, or settings a policy cannot work with.
    """
    return plan_readers(
        config.policy, config.namm, config.budget, config.update_interval, config.eviction, equal
    )


class Run:
    """One evaluation; its model, tasks and policies are looked up before the first document.

    Attributes:
        rows: one for each document, policy and budget, in the order of the plan.
        seeds: of the documents that are made.

    Raises:
        UserError: unknown model, task or policy, or a task file that cannot be read.
    """

    def __init__(self, config: LanguageEval) -> None:
        self.config = config
        self.readers = plan(config)
        files = {name: read_records(name) for name in config.task if name.endswith(RECORDS)}
        made = [name for name in config.task if name not in files]
        self.tasks = {name: get_task(name, config.depth) for name in made}
        self.language: LanguageModel = load_language_model(config.model)
        self.records = {name: self._encoded(name, records) for name, records in files.items()}
        self.adapter = get_adapter(self.language.model)
        self.says = language_for(self.language.tokenizer, self.adapter.config.vocab_size)
        if config.equal_bytes:
            self.readers = plan(config, EqualBytes(self._layer(), self._longest()))
        self.seeds = range(config.seed, config.seed + config.documents)
        self.rows: list[Row] = []
        self._seconds: dict[LanguageBlock, dict[str, float]] = {}

    def _layer(self) -> LayerShape:
        return LayerShape.of(self.adapter.config, self.language.model.dtype)

    def _longest(self) -> int:
        lengths = [batch.ids.shape[1] for batches in self.records.values() for batch in batches]
        return max([*lengths, *(self.config.length if self.tasks else ())])

    def _encoded(self, name: str, records: Sequence[Record]) -> list[TokenBatch]:
        tokenizer = self.language.tokenizer
        if tokenizer is None:
            raise UserError(
                f"{self.config.model} has no tokenizer to read {name} with; use a model of text"
            )
        batches = [encode_record(record, tokenizer) for record in records]
        for number, batch in enumerate(batches, 1):
            check_length(self.language.model, batch.ids.shape[1], f"question {number} of {name}")
        return batches

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the results: the options, and what the names in them stand for."""
        prunings = {reader.name: reader.pruning for reader in self.readers}
        return {
            **self.config.settings,
            "model files": model_digest(self.language.model),
            "namm vectors": namm_digests(prunings),
            "task files": {name: path_digest(Path(name)) for name in self.records},
        }

    @property
    def seconds(self) -> dict[Key, float]:
        """Of each task, length, policy and budget."""
        found: dict[Key, float] = {}
        for block, seconds in self._seconds.items():
            key = (block.task, block.length, block.policy, block.budget)
            found[key] = found.get(key, 0.0) + seconds["seconds"]
        return found

    def play(self, folder: BlockFolder[LanguageBlock]) -> bool:
        """Score what is not finished; returns whether Ctrl-C ended it early."""
        self.rows, self._seconds = list(folder.earlier), dict(folder.seconds)
        cells = [
            (task, length)
            for task in self.config.task
            for length in (self.config.length if task in self.tasks else (None,))
        ]
        counts = [len(self.records.get(task, self.seeds)) for task, _ in cells]
        try:
            with Progress(console=Console(stderr=True), transient=True) as progress:
                bar = progress.add_task("documents", total=sum(counts) * len(self.readers))
                for task, length in cells:
                    for seeds, batch in self._batches(task, length):
                        for reader in self.readers:
                            progress.update(bar, description=f"{task} {reader.name}")
                            self._block(task, length, reader, batch, seeds, folder)
                            progress.advance(bar, len(seeds))
        except KeyboardInterrupt:
            return True
        return False

    def _batches(self, task: str, length: int | None) -> Iterator[tuple[list[int], TokenBatch]]:
        """Documents to be read together, with their seeds or their numbers in the task file."""
        if length is None:
            for number, batch in enumerate(self.records[task]):
                yield [number], batch
            return
        for start in range(0, len(self.seeds), self.config.batch):
            seeds = list(self.seeds[start : start + self.config.batch])
            yield seeds, make_batch(self.tasks[task], length, seeds, self.says)

    def _block(
        self,
        task: str,
        length: int | None,
        reader: Reader,
        batch: TokenBatch,
        seeds: list[int],
        folder: BlockFolder[LanguageBlock],
    ) -> None:
        block = LanguageBlock(tuple(seeds), task, length, reader.pruning.budget, reader.name)
        if block in self._seconds:
            return
        began = time.perf_counter()
        rows = self._read(task, length, reader, batch, seeds)
        self._seconds[block] = {"seconds": time.perf_counter() - began}
        self.rows += rows
        folder.extend(rows)
        folder.finish_block(block, self._seconds[block])

    def _read(
        self, task: str, length: int | None, reader: Reader, batch: TokenBatch, seeds: list[int]
    ) -> list[Row]:
        with Memory(self.adapter, reader.pruning) as memory:
            cache = memory.new_cache()
            scores = score_batch(self.language.model, batch, cache)
        kept = [
            [tokens for layer in cache.kept() for tokens in layer[row]] for row in range(len(seeds))
        ]
        return [
            {
                "model": self.config.model,
                "task": task,
                "length": length,
                "tokens": batch.ids.shape[1],
                "policy": reader.name,
                "budget": reader.pruning.budget,
                "seed": seed,
                **{name: float(getattr(scores, name)[row]) for name in METRICS},
                "kept_tokens": sum(kept[row]) / len(kept[row]),
                "cache_bytes": cache.bytes() // len(seeds),
                "peak_bytes": cache.peak_bytes() // len(seeds),
                "full_bytes": cache.full_bytes() // len(seeds),
            }
            for row, seed in enumerate(seeds)
        ]

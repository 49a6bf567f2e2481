"""Documents with questions, read by a language model; and the benchmark that others build on."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from transfer.adapters.language_model import LanguageModel, load_language_model
from transfer.adapters.placement import computed
from transfer.adapters.scoring import check_length, positions_of, score_batch
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.footprint import LayerShape
from transfer.errors import UserError, unknown_name
from transfer.evaluation.benchmark import Benchmark, Block, Row
from transfer.evaluation.contenders import Contender, full, plan
from transfer.evaluation.digest import model_digest, path_digest
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.options import RECORDS
from transfer.tasks.base import TokenBatch
from transfer.tasks.recall import TASKS, get_task, make_batch
from transfer.tasks.records import Record, encode_record, read_records
from transfer.tasks.text import check_text, language_for

#: What a task may be beside a name.
_READ = (
    f"a file of your own questions ends in {RECORDS} and has lines of "
    '{"prompt": "... Answer:", "answer": "red"}, a benchmark of your own is package.module:Class'
)

#: Length and seeds in, a document for each seed out.
Maker = Callable[[int, Sequence[int]], TokenBatch]


class LanguageBenchmark(Benchmark):
    """Every document in one pass, its answers teacher-forced.

    To ask questions of your own, override `questions` or `maker`.

    Args:
        config: of the evaluation.

    Raises:
        UserError: unknown model or task, a task file that cannot be read, or documents that are
            longer than the model's positions or too short for their task.
    """

    kind: ClassVar[str] = "language"
    metrics = ("correct", "answer_probability", "log_likelihood")
    keys = ("length",)

    def __init__(self, config: LanguageEval) -> None:
        self.config, self.model = config, config.model
        asked = {name: self.questions(name) for name in config.task}
        made = [name for name, records in asked.items() if records is None]
        self._makers = {name: self.maker(name) for name in made}
        self.language: LanguageModel = load_language_model(
            config.model, config.trust_remote_code, **config.place.settings
        )
        self.adapter = get_adapter(self.language.model)
        self.says = language_for(self.language.tokenizer, self.adapter.config.vocab_size)
        self._records = {
            name: self._encoded(name, records)
            for name, records in asked.items()
            if records is not None
        }
        if made:
            check_length(self.language.model, max(config.length), "a document")
        seeds = range(config.seed, config.seed + config.documents)
        for length, make in product(config.length, self._makers.values()):
            # Refuses a length that does not hold what one of them asks about.
            for start in range(0, len(seeds), config.batch):
                make(length, seeds[start : start + config.batch])

    def questions(self, task: str) -> Sequence[Record] | None:
        """The questions of a task that has its own; None where documents are made.

        Raises:
            UserError: they cannot be read.
        """
        return read_records(task) if task.endswith(RECORDS) else None

    def maker(self, task: str) -> Maker:
        """What makes the documents of a task.

        Raises:
            UserError: there is no such task.
        """
        if task not in TASKS:
            raise unknown_name("task", task, TASKS, _READ)
        made = get_task(task, self.config.depth)
        return lambda length, seeds: make_batch(made, length, seeds, self.says)

    def contenders(self) -> Sequence[Contender]:
        """The full cache, then every policy at every budget."""
        options, model = self.config.contenders, self.language.model
        lengths = [batch.ids.shape[1] for own in self._records.values() for batch in own]
        longest = max([*lengths, *(self.config.length if self._makers else ())])
        shape = LayerShape.of(self.adapter.config, model.dtype)
        return [full(options.update_interval), *plan(options, shape, longest)]

    def blocks(self) -> Sequence[Block]:
        """Batches of made documents, and questions one by one."""
        return [block for task in self.config.task for block in self._blocks(task)]

    def _blocks(self, task: str) -> Iterator[Block]:
        config = self.config
        for number, batch in enumerate(self._records.get(task, ())):
            yield _block(task, None, [number], batch)
        seeds = range(config.seed, config.seed + config.documents)
        for length in config.length if task in self._makers else ():
            for start in range(0, len(seeds), config.batch):
                yield _block(task, length, list(seeds[start : start + config.batch]))

    def prepared(self, block: Block) -> tuple[list[Any], TokenBatch]:
        """The documents' numbers, and their tokens."""
        first = block.items[0]
        numbers = [item["item"] for item in block.items]
        if block.content is not None:
            return numbers, block.content
        return numbers, self._makers[first["task"]](first["length"], numbers)

    def rows(self, ready: tuple[list[Any], TokenBatch], contender: Contender) -> Iterator[Row]:
        """The scores of the documents of a batch, and what their caches hold."""
        items, batch = ready
        assert contender.pruning is not None
        with Memory(self.adapter, contender.pruning) as memory:
            cache = memory.new_cache()
            scores = score_batch(self.language.model, batch, cache)
        count = len(items)
        for row, item in enumerate(items):
            kept = [tokens for layer in cache.kept() for tokens in layer[row]]
            yield {
                "item": item,
                **{name: float(getattr(scores, name)[row]) for name in self.metrics},
                "tokens": batch.ids.shape[1],
                "kept_tokens": sum(kept) / len(kept),
                "cache_bytes": cache.bytes() // count,
                "peak_bytes": cache.peak_bytes() // count,
                "full_bytes": cache.full_bytes() // count,
                "policy_seconds": cache.policy_seconds() / count,
            }

    def computed(self) -> dict[str, str]:
        """Of the model."""
        return computed(self.language.model)

    def digest(self) -> dict[str, Any]:
        """Of the model's files and the task files."""
        files = {name: path_digest(Path(name)) for name in self.config.task if RECORDS in name}
        return {"model files": model_digest(self.language.model), "task files": files}

    def _encoded(self, name: str, records: Sequence[Record]) -> list[TokenBatch]:
        tokenizer = self.language.tokenizer
        if tokenizer is None:
            raise UserError(
                f"{self.config.model} has no tokenizer to read {name} with; use a model of text"
            )
        positions = positions_of(self.language.model)
        for number, record in enumerate(records, 1):
            for text in (record.prompt, record.answer):
                check_text(text, tokenizer, positions, f"question {number} of {name}")
        batches = [encode_record(record, tokenizer) for record in records]
        for number, batch in enumerate(batches, 1):
            check_length(self.language.model, batch.ids.shape[1], f"question {number} of {name}")
        return batches


def _block(
    task: str, length: int | None, numbers: list[int], batch: TokenBatch | None = None
) -> Block:
    items = [{"task": task, "length": length, "item": one, "cluster": one} for one in numbers]
    return Block(f"{task}/{length or 'own'}/{numbers[0]}-{numbers[-1]}", items, batch)

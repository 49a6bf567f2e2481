"""Documents of symbols with questions, answered in one pass; and the benchmark others build on."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, ClassVar

from transfer.adapters.language_model import LanguageModel, load_language_model
from transfer.adapters.placement import computed
from transfer.adapters.scoring import check_length, score_batch
from transfer.adapters.weights import weights_digest
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.footprint import LayerShape
from transfer.errors import UserError, check_unused, unknown_name
from transfer.evaluation.benchmark import Benchmark, Block, Row
from transfer.evaluation.contenders import Contender, full, plan
from transfer.evaluation.digest import model_digest
from transfer.evaluation.held import held
from transfer.evaluation.language import MADE, LanguageEval
from transfer.evaluation.options import RECORDS, refuse_file
from transfer.tasks.base import TokenBatch
from transfer.tasks.benchmarks import FAMILIES
from transfer.tasks.recall import TASKS, get_task, make_batch
from transfer.tasks.text import language_for

#: What a task may be beside a name.
_OWN = "a benchmark of your own is package.module:Class"

#: Length and seeds in, a document for each seed out.
Maker = Callable[[int, Sequence[int]], TokenBatch]


class LanguageBenchmark(Benchmark):
    """Every document in one pass, its answers teacher-forced.

    To ask questions of your own, override `maker`.

    Args:
        config: of the evaluation.

    Raises:
        UserError: unknown model or task, or documents that are longer than the model's positions or
            too short for their task.
    """

    kind: ClassVar[str] = "language"
    metrics = ("correct", "answer_probability", "log_likelihood")
    keys = ("length",)

    def __init__(self, config: LanguageEval) -> None:
        self.config, self.model = config, config.model
        symbols = f"{config.model}, a model of symbols, which reads no text"
        check_unused(config, symbols, "data", "question", "prompt", "max_length")
        self._makers = {name: self.maker(name) for name in config.task}
        self.language: LanguageModel = load_language_model(
            config.model, config.trust_remote_code, **config.place.settings
        )
        self.adapter = get_adapter(self.language.model)
        self.says = language_for(self.language.tokenizer, self.adapter.config.vocab_size)
        self._seeds = range(config.seed, config.seed + (config.documents or MADE))
        check_length(self.language.model, max(config.length), "a document")
        for length, make in product(config.length, self._makers.values()):
            # Refuses a length that does not hold what one of them asks about.
            for start in range(0, len(self._seeds), config.batch):
                make(length, self._seeds[start : start + config.batch])

    def maker(self, task: str) -> Maker:
        """What makes the documents of a task.

        Raises:
            UserError: there is no such task, or it is one of text.
        """
        if task.endswith(RECORDS) or task.partition("/")[0] in FAMILIES:
            raise UserError(
                f"{self.config.model} has no tokenizer to read {task} with; use a model of text"
            )
        refuse_file(task, "a model without a tokenizer reads none; use a model of text")
        if task not in TASKS:
            raise unknown_name("task", task, TASKS, _OWN)
        if len(self.config.depth) > 1:
            raise UserError(
                f"--depth {' '.join(map(str, self.config.depth))}: for models of symbols use one"
            )
        made = get_task(task, *self.config.depth)
        return lambda length, seeds: make_batch(made, length, seeds, self.says)

    def contenders(self) -> Sequence[Contender]:
        """The full cache, then every policy at every budget."""
        options, model = self.config.contenders, self.language.model
        shape = LayerShape.of(self.adapter.config, model.dtype)
        lengths = self.config.length
        return [full(options.update_interval), *plan(options, shape, max(lengths), lengths)]

    def blocks(self) -> Sequence[Block]:
        """Batches of documents."""
        return [
            _block(task, length, self._seeds[start : start + self.config.batch])
            for task in self.config.task
            for length in self.config.length
            for start in range(0, len(self._seeds), self.config.batch)
        ]

    def prepared(self, block: Block) -> tuple[list[int], TokenBatch]:
        """The documents' seeds, and their tokens."""
        first = block.items[0]
        seeds = [item["item"] for item in block.items]
        return seeds, self._makers[first["task"]](first["length"], seeds)

    def rows(self, ready: tuple[list[int], TokenBatch], contender: Contender) -> Iterator[Row]:
        """The scores of the documents of a batch, and what their caches hold."""
        items, batch = ready
        assert contender.pruning is not None
        with Memory(self.adapter, contender.pruning) as memory:
            cache = memory.new_cache()
            scores = score_batch(self.language.model, batch, cache)
        for row, item in enumerate(items):
            yield {
                "item": item,
                **{name: float(getattr(scores, name)[row]) for name in self.metrics},
                **held(cache, row),
            }

    def computed(self) -> dict[str, str]:
        """Of the model."""
        return computed(self.language.model)

    def weights(self) -> str:
        """Digest of the model's."""
        return weights_digest(self.language.model)

    def digest(self) -> dict[str, Any]:
        """Of the model's files."""
        return {"model files": model_digest(self.language.model)}


def _block(task: str, length: int, seeds: Sequence[int]) -> Block:
    items = [{"task": task, "length": length, "item": one, "cluster": one} for one in seeds]
    return Block(f"{task}/{length}/{seeds[0]}-{seeds[-1]}", items)

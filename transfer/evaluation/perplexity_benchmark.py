"""The likelihood of the user's own texts, read under each policy.

A text is read in windows of a length, each half a window on from the one before; of every window
but the first the second half is scored. So each token of the text but its first is scored once,
after half a window of text at least, and none is left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any, ClassVar

from transfer.adapters.language_model import load_language_model
from transfer.adapters.placement import computed
from transfer.adapters.scoring import check_length, log_likelihoods
from transfer.adapters.weights import weights_digest
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.footprint import LayerShape
from transfer.errors import UserError, check_unused
from transfer.evaluation.benchmark import Benchmark, Block, Row
from transfer.evaluation.contenders import Contender, full, plan
from transfer.evaluation.digest import model_digest
from transfer.evaluation.held import held
from transfer.evaluation.language import PERPLEXITY, LanguageEval
from transfer.files import content_digest
from transfer.tasks.texts import read_texts


@dataclass(frozen=True)
class Window:
    """Tokens that are read, from which of them on they are scored, and where they stand."""

    ids: tuple[int, ...]
    scored: int
    start: int


class PerplexityBenchmark(Benchmark):
    """Texts that are read and predicted token by token.

    Args:
        config: of the evaluation.

    Raises:
        UserError: no data, nothing in them that can be read, a model without a tokenizer, or
            lengths beyond its positions.
    """

    kind: ClassVar[str] = "language"
    metrics = ("log_likelihood",)
    keys = ("length",)
    means = ("scored_tokens",)
    weigh_by = "scored_tokens"

    def __init__(self, config: LanguageEval) -> None:
        if config.data is None:
            raise UserError("--task perplexity needs texts; name a file or folder with --data")
        if min(config.length) < 2:
            raise UserError(f"length is {min(config.length)}; a window needs 2 tokens or more")
        check_unused(config, "--task perplexity", "question", "prompt", "max_length", "depth")
        self.config, self.model = config, config.model
        self.language = load_language_model(
            config.model, config.trust_remote_code, **config.place.settings
        )
        if self.language.tokenizer is None:
            raise UserError(
                f"{config.model} has no tokenizer to read {config.data} with; use a model of text"
            )
        tokenizer = self.language.tokenizer
        self.adapter = get_adapter(self.language.model)
        check_length(self.language.model, max(config.length), "a window")
        read = {name: tokenizer.encode(text) for name, text in read_texts(config.data).items()}
        # Of a single token nothing is predicted.
        self._texts = {name: ids for name, ids in read.items() if len(ids) > 1}
        if not self._texts:
            raise UserError(f"no text of {config.data} has two tokens; there is nothing to predict")

    def contenders(self) -> Sequence[Contender]:
        """The full cache, then every policy at every budget."""
        options = self.config.contenders
        shape = LayerShape.of(self.adapter.config, self.language.model.dtype)
        longest = max(self.config.length)
        lengths = [len(block.content[1].ids) for block in self.blocks()]
        return [full(options.update_interval), *plan(options, shape, longest, lengths)]

    def blocks(self) -> Sequence[Block]:
        """The windows of each length, the first of every text first; at most `documents`."""
        return [
            self._block(length, name, window)
            for length in self.config.length
            for _, name, window in sorted(
                (
                    (number, name, window)
                    for name, ids in self._texts.items()
                    for number, window in enumerate(windows_of(ids, length))
                ),
                key=lambda one: one[0],
            )[: self.config.documents]
        ]

    def _block(self, length: int, name: str, window: Window) -> Block:
        item = f"{name}:{window.start}"
        # Windows of one text are drawn together, unless there is no other text.
        cluster = name if len(self._texts) > 1 else item
        about = {"task": PERPLEXITY, "length": length, "item": item, "cluster": cluster}
        return Block(f"{length}/{item}", [about], (item, window))

    def rows(self, ready: tuple[str, Window], contender: Contender) -> Iterator[Row]:
        """The mean log-likelihood of the scored tokens of a window, and what its cache holds."""
        item, window = ready
        assert contender.pruning is not None
        with Memory(self.adapter, contender.pruning) as memory:
            cache = memory.new_cache()
            found = log_likelihoods(self.language.model, window.ids, cache)[window.scored - 1 :]
        yield {
            "item": item,
            "log_likelihood": float(found.mean()),
            "scored_tokens": len(found),
            **held(cache),
        }

    def about(self, rows: Sequence[Row], failed: Sequence[Row]) -> Row:
        """The perplexity, each token weighing the same."""
        tokens = sum(row["scored_tokens"] for row in rows)
        total = sum(row["log_likelihood"] * row["scored_tokens"] for row in rows)
        return {"perplexity": exp(-total / tokens), "texts": len(self._texts)}

    def computed(self) -> dict[str, str]:
        """Of the model."""
        return computed(self.language.model)

    def weights(self) -> str:
        """Digest of the model's."""
        return weights_digest(self.language.model)

    def digest(self) -> dict[str, Any]:
        """Of the model's files and the texts."""
        return {
            "model files": model_digest(self.language.model),
            "texts": content_digest(self._texts),
        }


def windows_of(ids: Sequence[int], length: int) -> Iterator[Window]:
    """Windows that score every token but the first once.

    Args:
        ids: of a text.
        length: of a window, at least 2; the last one may be shorter.
    """
    stride, start, done = length - length // 2, 0, 1
    while done < len(ids):
        end = min(start + length, len(ids))
        yield Window(tuple(ids[start:end]), done - start, start)
        start, done = start + stride, end

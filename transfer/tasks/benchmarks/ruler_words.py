"""RULER's aggregations: the common words of a numbered list, the frequent words of a coded text."""

import math
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.tasks.benchmarks.ruler_base import Maker, RulerTask
from transfer.tasks.benchmarks.words import PAIRS, SINGLE
from transfer.tasks.reading import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_COMMON = 10
#: Below this length a list repeats its words less often.
_LONG = 4096


@dataclass(frozen=True)
class CommonWords(RulerTask):
    """Ten words of a list are in it more often than the others, after a solved example."""

    name: str = "ruler/cwe"

    new_tokens = 120
    # The common words and one more.
    least = _COMMON + 1

    def maker(
        self, length: int, tokenizer: "PreTrainedTokenizerBase", data: Path | None, around: int
    ) -> Maker:
        """See `RulerTask`; data are not used."""
        return partial(self._made, length < _LONG)

    def _made(self, short: bool, seed: int, depth: float | None, size: int) -> Sample:
        rng = self.random(seed)
        words, often, seldom = (20, 3, 1) if short else (40, 10, 3)
        *said, common = _list(rng, words, often, seldom)
        example = f"{''.join(said)}{_numbered(common)}"
        context, question, prefix, common = _list(rng, size, *((6, 1) if short else (30, 3)))
        return Sample(seed, f"{example}\n{context}", question, tuple(common), prefix)

    def answer(self, sample: Sample) -> str:
        """The words as a numbered list, as in the example."""
        return _numbered(sample.answers)


def _list(
    rng: random.Random, size: int, often: int, seldom: int
) -> tuple[str, str, str, list[str]]:
    """Context, question, answer prefix, and the words that are right.

    A text of more words than the list of single ones has consists of pairs.
    """
    drawn = rng.sample(SINGLE if size <= len(SINGLE) else PAIRS, size)
    common, others = drawn[:_COMMON], drawn[_COMMON:]
    words = common * often + others * seldom
    rng.shuffle(words)
    return (
        "Below is a numbered list of words. In these words, some appear more often than others. "
        f"Memorize the ones that appear most often.\n{_numbered(words)[1:]}\n",
        f"Question: What are the {_COMMON} most common words in the above list?",
        f" Answer: The top {_COMMON} words that appear most often in the list are:",
        common,
    )


def _numbered(words: Sequence[str]) -> str:
    return "".join(f" {number}. {word}" for number, word in enumerate(words, 1))


@dataclass(frozen=True)
class FrequentWords(RulerTask):
    """Coded words as frequent as Zipf's law has it; the most frequent of all are dots, noise."""

    name: str = "ruler/fwe"

    new_tokens = 50
    # So that the fourth word of all is there more often than the fifth.
    least = 60

    def maker(
        self, length: int, tokenizer: "PreTrainedTokenizerBase", data: Path | None, around: int
    ) -> Maker:
        """See `RulerTask`; data are not used."""
        # Of the room, unlike the repeats of the list, and as the authors do. A short text has the
        # noise, the three words and one more at least.
        return partial(self._made, max(5, (length - around - self.new_tokens) // 50))

    def _made(self, vocabulary: int, seed: int, depth: float | None, size: int) -> Sample:
        rng = self.random(seed)
        coded: dict[str, None] = {"...": None}
        while len(coded) < vocabulary:
            coded["".join(rng.choices(string.ascii_lowercase, k=6))] = None
        # Zeta distribution with exponent 2, as counts.
        counts = (int(size * 6 / (math.pi * rank) ** 2) for rank in range(1, vocabulary + 1))
        words = [word for word, count in zip(coded, counts) for _ in range(count)]
        rng.shuffle(words)
        context = (
            "Read the following coded text and track the frequency of each coded word. Find the "
            f"three most frequently appeared coded words. {' '.join(words)}\n"
        )
        question = (
            "Question: Do not provide any explanation. Please ignore the dots '....'. What are the "
            "three most frequently appeared words in the above coded text?"
        )
        prefix = (
            " Answer: According to the coded text above, the three most frequently appeared words "
            "are:"
        )
        return Sample(seed, context, question, tuple(coded)[1:4], prefix)

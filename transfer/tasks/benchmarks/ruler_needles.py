"""RULER's eight needles in a haystack: what is the special magic number of a key?"""

import random
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from transfer.tasks.benchmarks.haystack import essays, haystack
from transfer.tasks.benchmarks.ruler_base import Maker, RulerTask, depth_group, item_name
from transfer.tasks.benchmarks.ruler_qa import QUESTIONS
from transfer.tasks.benchmarks.words import PAIRS
from transfer.tasks.reading import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
#: Percent of the sentences before a needle in essays.
_DEPTHS = [round(step * 100 / 39) for step in range(40)]

Kind = Literal["words", "numbers", "uuids"]
_DRAWN: dict[Kind, Callable[[random.Random], str]] = {
    "words": lambda rng: rng.choice(PAIRS),
    "numbers": lambda rng: str(rng.randrange(10**6, 10**7)),
    "uuids": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
}


@dataclass(frozen=True)
class Needles(RulerTask):
    """Values of keys are stated in a text, and those of some keys are asked for.

    Args:
        name: of the task.
        text: what they are hidden in: a sentence again and again, essays, or other needles.
        key: what keys look like.
        value: what values look like.
        keys: how many are stated, those in a text of needles apart.
        values: of each key.
        queries: keys that are asked for.
    """

    name: str
    text: Literal["noise", "essay", "needle"]
    key: Kind = "words"
    value: Kind = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1

    new_tokens = 128
    deep = True
    # As many lines as needles, between which they are put.
    least = 4

    def maker(
        self, length: int, tokenizer: "PreTrainedTokenizerBase", data: Path | None, around: int
    ) -> Maker:
        """See `RulerTask`; only tasks with essays read the data."""
        words = haystack(_without_questions(data)).split() if self.text == "essay" else ()
        return partial(self._made, words)

    def _made(self, words: Sequence[str], seed: int, depth: float | None, size: int) -> Sample:
        rng = self.random(seed)
        values = iter(_distinct(rng, self.value, self.keys * self.values))
        keys = _distinct(rng, self.key, self.keys)
        stated = {key: list(islice(values, self.values)) for key in keys}
        asked = rng.sample(keys, self.queries)
        needles = [(key, value) for key in keys for value in stated[key]]
        rng.shuffle(needles)
        pieces = self._pieces(rng, words, size, keys)
        places = self._places(rng, len(pieces), len(needles))
        if depth is not None:
            at = int(depth * len(pieces))
            places = [at if key in asked else place for place, (key, _) in zip(places, needles)]
        for place, needle in sorted(zip(places, needles), key=itemgetter(0), reverse=True):
            pieces.insert(place, self._needle(*needle))
        text = (" " if self.text == "essay" else "\n").join(pieces)
        context, question, prefix = self._said(text, asked)
        answers = tuple(value for key in asked for value in stated[key])
        item, groups = item_name(seed, depth), depth_group(depth)
        return Sample(item, context, question, answers, prefix, groups)

    def _pieces(
        self, rng: random.Random, words: Sequence[str], size: int, keys: Sequence[str]
    ) -> list[str]:
        """What is between the needles: lines, or the sentences of so many words of essays."""
        if self.text == "noise":
            return [NOISE] * size
        if self.text == "needle":
            others = _distinct(rng, self.key, size, keys)
            return [self._needle(key, _DRAWN[self.value](rng)) for key in others]
        text = " ".join(islice(cycle(words), size))
        return re.split(r"(?<=[.!?]) ", text)

    def _places(self, rng: random.Random, pieces: int, count: int) -> list[int]:
        """Pieces before each needle."""
        if self.text == "essay":
            return [pieces * depth // 100 for depth in rng.sample(_DEPTHS, count)]
        return rng.sample(range(pieces), count)

    def _needle(self, key: str, value: str) -> str:
        return f"One of the special magic {self.value} for {key} is: {value}."

    def _said(self, text: str, asked: Sequence[str]) -> tuple[str, str, str]:
        """Context, question and answer prefix."""
        one = self.queries * self.values == 1
        kind = self.value.removesuffix("s") if one else self.value
        some, are, all_ = ("A", "is", "") if one else ("Some", "are", " all")
        *others, last = asked
        query = f"{', '.join(others)}, and {last}" if others else last
        which = f"the special magic {kind} for {query} mentioned in the provided text"
        return (
            f"{some} special magic {kind} {are} hidden within the following text. Make sure to "
            f"memorize it. I will quiz you about the {kind} afterwards.\n{text}\n",
            f"What {are}{all_} {which}?",
            f" The {which.removeprefix('the ')} {are}",
        )


def _without_questions(data: Path | None) -> Path | None:
    """The data; None, for plain prose, if they are what RULER's questions are about and no more."""
    if data is None or all(task.lacks(data) for task in QUESTIONS):
        return data
    return data if data.is_dir() and essays(data) else None


def _distinct(rng: random.Random, kind: Kind, count: int, taken: Sequence[str] = ()) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        drawn = _DRAWN[kind](rng)
        if drawn not in taken:
            found[drawn] = None
    return list(found)


NEEDLES = (
    Needles("ruler/niah_single_1", "noise"),
    Needles("ruler/niah_single_2", "essay"),
    Needles("ruler/niah_single_3", "essay", value="uuids"),
    Needles("ruler/niah_multikey_1", "essay", keys=4),
    Needles("ruler/niah_multikey_2", "needle"),
    Needles("ruler/niah_multikey_3", "needle", key="uuids", value="uuids"),
    Needles("ruler/niah_multivalue", "essay", values=4),
    Needles("ruler/niah_multiquery", "essay", keys=4, queries=4),
)

"""Recall of facts among distractors, and its harder kinds, as documents drawn from seeds.

Facts, decoys and a pass key stand somewhere among distractor sentences; questions follow at the
end, so that whoever reads cannot know which facts matter. The last fact of a key counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from transfer.arguments import check_fields, typed
from transfer.errors import UserError, unknown_name
from transfer.tasks.base import (
    DIGITS,
    KEYS,
    NOISE,
    VALUES,
    Language,
    Phrases,
    Piece,
    Said,
    TokenBatch,
)
from transfer.tasks.prose import sentences
from transfer.tasks.symbols import Symbols

#: A document repeats this many different sentences of noise, each of that many words.
POOL, POOL_WORDS = (3, 6), (4, 10)
DECOY_WORDS = (2, 4)


@dataclass(frozen=True)
class RecallTask:
    """What a document holds and what is asked of it.

    Attributes:
        facts: least and most keys that facts are stated of.
        questions: of different keys, at the end; of every key if there are fewer.
        overwrites: probability that a stated key is stated once more, with another value (up to
            three times).
        decoys: key and value side by side that are no fact, half of them about a key asked for.
        passkey: digits of a pass key, all different, asked at the end too; 0: none.
        depth: share of the distractors before the facts asked about (the last statement of each)
            and the pass key; None: anywhere.
        prose: distractors are sentences of real text instead of noise repeated throughout.
        interleaved: questions within the text, about facts stated so far; for training.
    """

    facts: tuple[int, int] = (4, 10)
    questions: int = 4
    overwrites: float = 0.0
    decoys: int = 0
    passkey: int = 0
    depth: float | None = None
    prose: bool = False
    interleaved: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        least, most = self.facts
        if not 1 <= least <= most <= KEYS:
            raise UserError(f"facts {self.facts}: give least and most, from 1 up to {KEYS}")
        for name in ("questions", "decoys", "passkey", "interleaved"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} {getattr(self, name)}: use 0 or more")
        if self.passkey > DIGITS:
            raise UserError(f"passkey {self.passkey}: use at most {DIGITS} digits")
        if not self.questions and not self.passkey:
            raise UserError("a task without questions and pass key asks nothing; add either")
        for name, share in (("overwrites", self.overwrites), ("depth", self.depth or 0.0)):
            if not 0 <= share <= 1:
                raise UserError(f"{name} {share}: use a number from 0 to 1")


TASKS: dict[str, RecallTask] = {
    "recall": RecallTask(),
    "overwritten": RecallTask(facts=(3, 6), overwrites=0.5),
    "decoys": RecallTask(decoys=6),
    "passkey": RecallTask(facts=(2, 6), questions=0, passkey=4),
    "needle": RecallTask(facts=(1, 1), questions=1, prose=True),
    "prose": RecallTask(prose=True),
}


@typed
def get_task(name: str, depth: float | None = None) -> RecallTask:
    """A task by name, its facts at a chosen depth if one is given.

    Raises:
        UserError: no such task, or the depth is not between 0 and 1.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name] if depth is None else replace(TASKS[name], depth=depth)


@typed
def make_batch(
    task: RecallTask, length: int, seeds: Sequence[int], language: Language | None = None
) -> TokenBatch:
    """Documents of exactly `length` tokens, one for each seed.

    A document depends on its own seed, the task and the length, not on its neighbours.

    Args:
        task: what they hold.
        length: tokens of each.
        seeds: from 0 up; see `FIRST_TRAINING_SEED`.
        language: how they are said; symbols by default.

    Raises:
        UserError: no seeds, or the length cannot hold the task.
    """
    if not seeds:
        raise UserError("no documents were asked for; give one seed or more")
    if min(seeds) < 0:
        raise UserError(f"a document's seed is {min(seeds)}; use 0 or more")
    language = Symbols() if language is None else language
    return TokenBatch.of([make_document(task, length, seed, language) for seed in seeds])


def make_document(task: RecallTask, length: int, seed: int, language: Language) -> Piece:
    """The document of one seed, `length` tokens."""
    rng = np.random.default_rng(seed)
    story = Story(task, rng)
    placed = [*story.placed(language), *story.interleaved(language)]
    ending = Piece.joined(list(story.ending(language)))
    begin = language.begin()
    rest = length - len(begin) - len(ending) - sum(len(piece) for _, piece in placed)
    if rest < 0:
        raise UserError(
            f"{length} tokens cannot hold this task's facts and questions, which are"
            f" {length - rest}; ask for longer documents or fewer facts"
        )
    distractors = _fill(task, rest, rng, language)
    return Piece.joined([begin, *merged(distractors, [*map(len, distractors)], placed), ending])


class Story:
    """What one document states and asks; depths are shares of the distractors."""

    def __init__(self, task: RecallTask, rng: np.random.Generator) -> None:
        self.task, self.rng = task, rng
        keys = rng.permutation(KEYS)[: rng.integers(task.facts[0], task.facts[1] + 1)].tolist()
        self.asked: list[int] = rng.permutation(keys)[: task.questions].tolist()
        #: key -> (depth, value) of its statements, in order
        self.stated = {key: self._statements(key in self.asked) for key in keys}
        self.digits: list[int] = rng.permutation(DIGITS)[: task.passkey].tolist()

    def placed(self, phrases: Phrases[Said]) -> Iterator[tuple[float, Said]]:
        """Every statement to be placed among the distractors, with its depth."""
        for key, statements in self.stated.items():
            for depth, value in statements:
                yield depth, phrases.fact(key, value)
        if self.digits:
            yield self._depth(), phrases.passkey(self.digits)
        for index in range(self.task.decoys):
            yield self._decoy(index, phrases)

    def interleaved(self, language: Language) -> Iterator[tuple[float, Piece]]:
        """The questions among them."""
        for _ in range(self.task.interleaved):
            yield self._question(language)

    def ending(self, language: Language) -> Iterator[Piece]:
        """The questions."""
        turn = int(self.rng.integers(len(self.asked) + 1)) if self.digits else -1
        for index, key in enumerate(self.asked):
            if index == turn:
                yield language.ask_passkey(self.digits)
            yield language.ask(key, self.stated[key][-1][1])
        if turn == len(self.asked):
            yield language.ask_passkey(self.digits)

    def _depth(self) -> float:
        return self.rng.random() if self.task.depth is None else self.task.depth

    def _statements(self, asked: bool) -> list[tuple[float, int]]:
        again = 1 + int((self.rng.random(3) < self.task.overwrites).cumprod().sum())
        values = self.rng.permutation(VALUES)[:again].tolist()
        depths = np.sort(self.rng.random(again))
        if asked and self.task.depth is not None:
            depths = depths / depths[-1] * self.task.depth
        return list(zip(depths.tolist(), values))

    def _decoy(self, index: int, phrases: Phrases[Said]) -> tuple[float, Said]:
        about = self.asked if index % 2 == 0 and self.asked else list(self.stated)
        key = about[self.rng.integers(len(about))]
        taken = {value for _, value in self.stated[key]}
        free = [value for value in range(VALUES) if value not in taken]
        value = free[self.rng.integers(len(free))]
        return self.rng.random(), phrases.decoy(key, value, _words(self.rng, DECOY_WORDS))

    def _question(self, language: Language) -> tuple[float, Piece]:
        key = list(self.stated)[self.rng.integers(len(self.stated))]
        statements = self.stated[key]
        depth = statements[0][0] + (1 - statements[0][0]) * self.rng.random()
        value = [value for stated, value in statements if stated <= depth][-1]
        return depth, language.ask(key, value)


def _words(rng: np.random.Generator, count: tuple[int, int]) -> list[int]:
    return rng.integers(NOISE, size=rng.integers(count[0], count[1] + 1)).tolist()


def _fill(
    task: RecallTask, tokens: int, rng: np.random.Generator, language: Language
) -> list[Piece]:
    """Distractor sentences of exactly so many tokens; the last is cut short, but ends."""
    source = sources(task, rng, language)
    pieces: list[Piece] = []
    while tokens > 0:
        ids = next(source).ids
        if len(ids) > tokens:
            ids = (*ids[: tokens - 1], ids[-1])
        pieces.append(Piece.plain(ids))
        tokens -= len(ids)
    return pieces


def sources(task: RecallTask, rng: np.random.Generator, phrases: Phrases[Said]) -> Iterator[Said]:
    """The distractor sentences of a document, without end."""
    return _prose(rng, phrases) if task.prose else _noise(rng, phrases)


def _noise(rng: np.random.Generator, phrases: Phrases[Said]) -> Iterator[Said]:
    count = int(rng.integers(POOL[0], POOL[1] + 1))
    pool = [phrases.noise(_words(rng, POOL_WORDS)) for _ in range(count)]
    while True:
        for index in rng.integers(count, size=64).tolist():
            yield pool[index]


def _prose(rng: np.random.Generator, phrases: Phrases[Said]) -> Iterator[Said]:
    text = sentences()
    at = int(rng.integers(len(text)))
    while True:
        yield phrases.prose(text[at % len(text)])
        at += 1


def merged(
    distractors: Sequence[Said], lengths: Sequence[int], placed: Iterable[tuple[float, Said]]
) -> list[Said]:
    """Put each placed piece between two distractor sentences, the nearest gap to its depth.

    Args:
        distractors: in order.
        lengths: of each, in whichever unit depths are shares of.
        placed: depths and pieces.
    """
    gaps = np.cumsum([0, *lengths])
    middles = (gaps[1:] + gaps[:-1]) / 2
    # what is placed in a gap comes before the distractor that begins there, in order of depth
    found = [(gap, 1, 0.0, piece) for gap, piece in enumerate(distractors)]
    for depth, piece in placed:
        gap = int(np.searchsorted(middles, depth * gaps[-1], side="right"))
        found.append((gap, 0, depth, piece))
    found.sort(key=lambda item: item[:3])
    return [piece for *_, piece in found]

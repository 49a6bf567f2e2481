"""The recall tasks in English, for models that read text: one question at a time, answered freely.

They hold the same facts as the documents in symbols of the same seeds. The form is a completion,
as in RULER: whoever knows the sentence that is begun goes on with its end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transfer.errors import UserError
from transfer.tasks import english
from transfer.tasks.reading import MadeTask, Sample, contains
from transfer.tasks.recall import TASKS, RecallTask, Story, merged, sources

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_AGAIN = "\nOne of the sentences above says:\n"


class Lines:
    """Sentences of English, each on a line of its own."""

    def fact(self, key: int, value: int) -> str:
        """A fact."""
        return f"{english.fact(key, value)}\n"

    def decoy(self, key: int, value: int, noise: Sequence[int]) -> str:
        """Key and value in a sentence of noise."""
        return f"{english.decoy(key, value, noise)}\n"

    def passkey(self, digits: Sequence[int]) -> str:
        """A pass key."""
        return f"{english.passkey(digits)}\n"

    def noise(self, words: Sequence[int]) -> str:
        """A sentence of noise words."""
        return f"{english.noise(words)}\n"

    def prose(self, sentence: str) -> str:
        """A sentence as it is."""
        return f"{sentence}\n"


class RecallReading(MadeTask):
    """One of the recall tasks; a document has a sample for each of its questions.

    Args:
        name: of the task in `TASKS`.
    """

    new_tokens = 8
    chat = True
    reads_data = False

    def __init__(self, name: str) -> None:
        self.name = name

    def samples(
        self,
        length: int,
        seeds: Sequence[int],
        tokenizer: "PreTrainedTokenizerBase",
        depths: Sequence[float] = (),
        data: Path | None = None,
        around: int = 0,
    ) -> Iterator[Sample]:
        """The questions of each document; with depths, of each document at each of them."""
        for seed in seeds:
            for depth in depths or (None,):
                at = "" if depth is None else f"@{depth:g}"
                groups = {} if depth is None else {"depth": f"{depth:g}"}
                task = replace(TASKS[self.name], depth=depth)
                asked = self._asked(task, length, around, seed, tokenizer)
                for number, (context, phrase, answer) in enumerate(asked):
                    item = f"{seed}{at}.{number}"
                    yield Sample(item, context, _AGAIN, (answer,), phrase, groups, cluster=seed)

    def score(self, reply: str, sample: Sample) -> float:
        """Whether the right answer is in the reply."""
        return float(contains(reply, sample.answers[0]))

    def _asked(
        self,
        task: RecallTask,
        length: int,
        around: int,
        seed: int,
        tokenizer: "PreTrainedTokenizerBase",
    ) -> Iterator[tuple[str, str, str]]:
        """A document, and how each sentence it is asked for begins and ends."""
        rng = np.random.default_rng(seed)
        story = Story(task, rng)
        placed = list(story.placed(Lines()))
        asked = list(_questions(story))
        said = [f"{_AGAIN}{phrase} {answer}" for phrase, answer in asked]
        rest = length - around - self.new_tokens - max(_count(tokenizer, text) for text in said)
        rest -= _count(tokenizer, f"{english.PREAMBLE}\n")
        rest -= sum(_count(tokenizer, text) for _, text in placed)
        if rest < 0:
            raise UserError(
                f"{length} tokens cannot hold the facts and questions of {self.name}, which are"
                f" {length - rest}; use --length {length - rest} or more"
            )
        distractors, lengths = [], []
        for sentence in sources(task, rng, Lines()):
            tokens = _count(tokenizer, sentence)
            if not tokens:
                raise UserError(
                    f"the tokenizer makes no tokens of {sentence!r}; use a model whose tokenizer "
                    "reads English"
                )
            rest -= tokens
            if rest < 0:
                break
            distractors.append(sentence)
            lengths.append(len(sentence))
        lines = merged(distractors, lengths, placed)
        context = "".join([f"{english.PREAMBLE}\n", *lines])
        for phrase, answer in asked:
            yield context, phrase, answer


def _questions(story: Story) -> Iterator[tuple[str, str]]:
    for key in story.asked:
        yield (
            f"The colour of the {english.KEY_WORDS[key]} is",
            english.VALUE_WORDS[story.stated[key][-1][1]],
        )
    if story.digits:
        yield "The pass key is", english.number(story.digits)


def _count(tokenizer: "PreTrainedTokenizerBase", text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))


READINGS: Mapping[str, RecallReading] = {name: RecallReading(name) for name in TASKS}

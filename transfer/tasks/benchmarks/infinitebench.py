"""InfiniteBench: books, dialogues, code, sums and needles, made for 128k tokens.

The prompts are those that its authors use for open models, and prompts beyond the limit lose their
middle in one piece. Six of the twelve tasks are generated: without data at any length; with data,
and the other six always, they are read.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.errors import UserError
from transfer.tasks.benchmarks.data import Found, Published, Record, asked, records
from transfer.tasks.benchmarks.infinitebench_forms import FORMS
from transfer.tasks.benchmarks.infinitebench_made import PUBLISHED_LENGTH, RECIPES
from transfer.tasks.benchmarks.infinitebench_scores import LETTERS
from transfer.tasks.benchmarks.sizing import count_tokens, count_with_reply, fitted, too_short
from transfer.tasks.reading import MadeTask, ReadingTask, ReadTask, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FAMILY = "infinitebench"
REPOSITORY = "xinrongzhang2022/InfiniteBench"
_CALL = re.compile(r"func_[0-9]+\(-?[0-9]+\)")
_ASKED = re.compile("The .+ of")


class InfiniteTask(ReadingTask):
    """One of the twelve."""

    family = FAMILY

    def __init__(self, kind: str) -> None:
        self.kind, self.form = kind, FORMS[kind]
        self.name, self.new_tokens = f"{FAMILY}/{kind}", self.form.new_tokens
        self.chance = 0.25 if self._chooses else 0.0

    def score(self, reply: str, sample: Sample) -> float:
        """By the authors' rule for the task."""
        return self.form.score(reply, sample.answers)

    def answer(self, sample: Sample) -> str:
        """The first answer in the form asked for; of a choice, the letter."""
        answer, *more = sample.answers
        match self.kind:
            case "longbook_choice_eng":
                return more[0]
            case "code_debug":
                return f"{more[0]}."
            case "math_calc":
                return f"[{more[0]}, {answer[1:]}"
        return answer

    @property
    def _chooses(self) -> bool:
        return "{options" in self.form.question

    def _sample(self, item: str | int, record: Record, groups: dict[str, str]) -> Sample:
        fields: dict[str, Any] = {"context": record.text("context")}
        if self._chooses:
            fields["options"] = record.texts("options")
            if len(fields["options"]) != 4:
                raise record.wrong(f"has {len(fields['options'])} options, not 4")
        if self.kind in ("code_run", "math_find") or "{input}" in self.form.question:
            fields["input"] = record.text("input")
        fields |= self._named(record, fields)
        form = self.form
        texts = (part.format(**fields) for part in (form.context, form.question, form.prefix))
        context, question, prefix = texts
        answers = self._answers(record, fields)
        return Sample(item, context, question, answers, prefix, groups)

    def _named(self, record: Record, fields: dict[str, Any]) -> dict[str, str]:
        """What of the question the prompt names elsewhere."""
        if self.kind == "code_run":
            if not (call := _CALL.search(fields["input"])):
                raise record.wrong("calls no function such as func_1(2) in its 'input'")
            return {"call": call[0], "function": call[0].partition("(")[0]}
        if self.kind == "math_find":
            if not (asked := _ASKED.search(fields["input"])):
                raise record.wrong("does not say in its 'input' what of the list it wants")
            return {"asked": asked[0].lower().removesuffix(" of")}
        return {}

    def _answers(self, record: Record, fields: dict[str, Any]) -> tuple[str, ...]:
        answers = _texts(record)
        if self._chooses:
            return _choice(record, answers, fields["options"])
        number = {"code_run": int, "math_find": float, "math_calc": int}.get(self.kind, str)
        for answer in answers:
            try:
                number(answer)
            except ValueError as error:
                raise record.wrong(f"has the answer {answer!r}, which is no number") from error
        if self.kind == "math_calc":
            if not (first := re.search("[0-9]+", fields["context"])):
                raise record.wrong("has no number in its 'context'")
            return f"[{', '.join(answers)}]", first[0]
        return answers


class Infinite(InfiniteTask, ReadTask):
    """A task of published records."""

    cut = "joined"

    def samples(self, data: Path | None, most: int | None = None) -> Iterator[Found]:
        """See `ReadTask`; records are called by their numbers from 0."""
        published = Published(REPOSITORY, (f"{self.kind}.jsonl",))
        for number, record in enumerate(records(data, self.kind, published, most)):
            yield asked(record, partial(self._sample, number, groups={}))


class InfiniteMade(InfiniteTask, MadeTask):
    """A task whose records are made by the published parameters."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.recipe = RECIPES[kind]
        self.published = Infinite(kind)

    def samples(
        self,
        length: int,
        seeds: Sequence[int],
        tokenizer: "PreTrainedTokenizerBase",
        depths: Sequence[float] = (),
        data: Path | None = None,
        around: int = 0,
    ) -> Iterator[Sample]:
        """See `MadeTask`."""
        if depths and not self.recipe.deep:
            raise UserError(f"{self.name} has nothing at a depth; leave out --depth")
        count = partial(self._tokens, tokenizer)
        for seed in seeds:
            for depth in depths or (None,):
                yield self._sized(partial(self._made, seed, depth), count, length, around)

    def _sized(
        self,
        make: Callable[[int], Sample],
        count: Callable[[Sample], int],
        length: int,
        around: int,
    ) -> Sample:
        """At the authors' length of their size, if it fits; else the longest that does."""
        recipe, room = self.recipe, length - around
        theirs = make(recipe.published) if length == PUBLISHED_LENGTH else None
        if theirs and count(theirs) <= room:
            return theirs
        found = fitted(make, count, recipe.least, room)
        if found is None:
            raise too_short(self, length, count(make(recipe.least)) + around)
        return found

    def _made(self, seed: int, depth: float | None, size: int) -> Sample:
        record = Record(f"{self.name} of seed {seed}", self.recipe.make(size, seed, depth))
        at = "" if depth is None else f"{depth:g}"
        item, groups = (f"{seed}@{at}", {"depth": at}) if at else (seed, {})
        return replace(self._sample(item, record, groups), cluster=seed)

    def _tokens(self, tokenizer: "PreTrainedTokenizerBase", sample: Sample) -> int:
        if self.kind != "math_calc":
            return count_with_reply(tokenizer, self, sample)
        # What may be said is as long as what was asked, not as the longest that there is.
        text = f"{sample.context}{sample.question}{sample.prefix} {self.answer(sample)}"
        return count_tokens(tokenizer, text)


def _texts(record: Record) -> tuple[str, ...]:
    """The answers of a record: a text or a number, a list of them, or such a list in a list."""
    told = record.fields.get("answer")
    match told:
        case [[*values]] | [*values]:
            pass
        case value:
            values = [value]
    if not values or any(
        isinstance(v, bool) or not isinstance(v, str | int | float) for v in values
    ):
        raise record.wrong("has no 'answer' that is a text, a number or a list of them")
    return tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _choice(record: Record, answers: tuple[str, ...], options: tuple[str, ...]) -> tuple[str, str]:
    """The right option and its letter, which only some records say."""
    match answers:
        case (right, letter) if letter in tuple(LETTERS):
            return right, letter
        case (right,) if right in options:
            return right, LETTERS[options.index(right)]
    raise record.wrong(f"has the answer {answers!r}, which is none of its options")


TASKS: dict[str, InfiniteTask] = {
    f"{FAMILY}/{kind}": InfiniteMade(kind) if kind in RECIPES else Infinite(kind) for kind in FORMS
}

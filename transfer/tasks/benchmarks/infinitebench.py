"""InfiniteBench: books, dialogues, code, sums and needles, made for 128k tokens.

The prompts are those that its authors use for open models, and prompts beyond the limit lose their
middle in one piece. Six of the twelve tasks are generated: without data at any length; with data,
and the other six always, they are read.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.errors import UserError
from transfer.tasks.benchmarks.data import Found, Published, Record, asked, records
from transfer.tasks.benchmarks.infinitebench_forms import FORMS
from transfer.tasks.benchmarks.infinitebench_made import PUBLISHED_LENGTH, RECIPES
from transfer.tasks.benchmarks.infinitebench_scores import LETTERS
from transfer.tasks.benchmarks.sizing import count_tokens, most_pieces
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
    ) -> Iterator[Sample]:
        """See `MadeTask`."""
        if depths and not self.recipe.deep:
            raise UserError(f"{self.name} has nothing at a depth; leave out --depth")
        for seed in seeds:
            for depth in depths or (None,):
                yield self._made(length, seed, depth, tokenizer)

    def _made(
        self, length: int, seed: int, depth: float | None, tokenizer: "PreTrainedTokenizerBase"
    ) -> Sample:
        def make(size: int) -> Sample:
            record = Record(f"{self.name} of seed {seed}", self.recipe.make(size, seed, depth))
            if depth is None:
                return self._sample(seed, record, {})
            return self._sample(f"{seed}@{depth:g}", record, {"depth": f"{depth:g}"})

        def tokens(size: int) -> int:
            return self._tokens(make(size), tokenizer)

        if length == PUBLISHED_LENGTH and tokens(self.recipe.published) <= length:
            return make(self.recipe.published)
        least = self.recipe.least
        if (needed := tokens(least)) > length:
            raise UserError(
                f"--length {length} does not hold {self.name}, which takes {needed} tokens or more "
                f"with its reply; use --length {needed} or more"
            )
        return make(most_pieces(tokens, least, length, needed))

    def _tokens(self, sample: Sample, tokenizer: "PreTrainedTokenizerBase") -> int:
        text = f"{sample.context}{sample.question}{sample.prefix}"
        if self.kind == "math_calc":
            # What may be said is as long as what was asked, not as the longest that there is.
            return count_tokens(tokenizer, f"{text} {self.answer(sample)}")
        return count_tokens(tokenizer, text) + self.new_tokens


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

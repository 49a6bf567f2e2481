"""How a question about a video is put to a model, and how its reply is read."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transfer.tasks.video_records import LETTERS, BrokenRecord, Prompt, VideoQuestion

Sampling = Literal["uniform", "midpoint", "segment", "fps"]


@dataclass(frozen=True)
class VideoTask(ABC):
    """A set of questions about videos, as its authors ask and score them.

    Attributes:
        name: as in `--task`.
        frames: of a video, unless the user asks for others.
        sampling: how `read_clip` chooses them.
        tokens: most new tokens of a generated answer.
        aggregation: "micro": the mean over questions; "macro": the mean over categories of their
            means (MLVU's M-Avg).
        groupings: fields of `VideoQuestion` that accuracy is reported by.
        layout: where its files are expected, in a clause that errors end with.
    """

    name: str
    frames: int = 32
    sampling: Sampling = "uniform"
    tokens: int = 16
    aggregation: Literal["micro", "macro"] = "micro"
    groupings: tuple[str, ...] = ("category",)
    layout: str = ""

    @abstractmethod
    def read(
        self, data: Path | None, questions: int | None = None
    ) -> list[VideoQuestion | BrokenRecord]:
        """The records, in their own order, with ids that differ.

        Args:
            data: folder or file; None where the task makes its own.
            questions: so many, spread evenly over the records so that all kinds occur; None: all.

        Raises:
            UserError: the folder or file is missing or holds no records.
        """

    @abstractmethod
    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """How the question is asked about frames of these seconds of its video."""

    def parse(self, reply: str, question: VideoQuestion) -> int | None:
        """The option that a generated reply means; None: it cannot be told, which is wrong."""
        return parse_letter(reply, question.options)

    def submission(self, said: Sequence[tuple[VideoQuestion, int | None, str]]) -> object | None:
        """What the authors score, who alone know the answers, as JSON; None: they take none.

        Args:
            said: questions without published answers, each with the option that was said (None: it
                cannot be told) and the reply.
        """
        return None

    def frames_of(self, question: VideoQuestion, most: int) -> int:
        """How many frames of this video are read where the user allows `most`."""
        return most


def lettered(options: Sequence[str], form: str = "{letter}. {option}") -> str:
    """The options, one a line, each with its letter."""
    lines = (form.format(letter=letter, option=text) for letter, text in zip(LETTERS, options))
    return "\n".join(lines)


def letters(options: Sequence[str]) -> tuple[str, ...]:
    """A letter for each option."""
    return tuple(LETTERS[: len(options)])


def asked(question: VideoQuestion) -> str:
    """The question as most benchmarks put it."""
    return "\n".join(
        (
            question.question,
            lettered(question.options),
            "Answer with the option's letter from the given choices directly.",
        )
    )


#: What stands before the letter in replies such as "The best answer is (B)."
_LEAD = re.compile(
    r"^\W*(the\s+)?(best\s+|correct\s+)?(answer|option|choice)(\s+is|\s*:)*[\s:(*]*", re.IGNORECASE
)
#: A capital that stands alone; an "A" that a word follows is an article.
_ALONE = re.compile(r"(?<![A-Za-z0-9'’])(?!A\s+[a-z])([A-H])(?![A-Za-z0-9'’])")
_NOTHING_ELSE = re.compile(r"\W*([a-h])\W*")


def parse_letter(reply: str, options: Sequence[str]) -> int | None:
    """The option whose text or letter a reply gives; None if neither can be told.

    Phrases such as "The answer is" are passed over. What follows may be an option's text, but for
    case and a final stop; otherwise the first capital letter that stands alone decides, or a small
    one with nothing beside it. Letters beyond the options mean nothing. There is no guessing.
    """
    reply = _LEAD.sub("", reply, count=1)
    plain = [_plain(option) for option in options]
    if _plain(reply) in plain:
        return plain.index(_plain(reply))
    found = _ALONE.search(reply) or _NOTHING_ELSE.fullmatch(reply)
    index = LETTERS.index(found[1].upper()) if found else len(options)
    return index if index < len(options) else None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")

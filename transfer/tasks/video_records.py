"""What every task about videos comes down to: questions with options about a part of a video."""

from dataclasses import dataclass
from pathlib import Path

from transfer.errors import UserError

#: Letters of the options, as many as a question may have.
LETTERS = "ABCDEFGH"
#: The part of a prompt where all frames of the video stand, and the part where the next one stands.
VIDEO, FRAME = "<video>", "<frame>"
#: The answer of a published question none of whose options is right: whatever is said is wrong.
NONE_RIGHT = -1


@dataclass(frozen=True)
class Prompt:
    """A user's turn about a video and how the assistant's turn begins.

    Attributes:
        parts: of the user's turn, one after the other with nothing between them. Either one of them
            is `VIDEO`, or as many as the clip has frames are `FRAME`.
        answers: the text whose likelihood right after the prompt stands for each option, letters
            ("A", "B") or words.
        system: what the conversation begins with; empty: what the model's template says.
        prefill: how the assistant's turn begins, for example "Best Option: (".
    """

    parts: tuple[str, ...]
    answers: tuple[str, ...]
    system: str = ""
    prefill: str = ""

    def __post_init__(self) -> None:
        if self.parts.count(VIDEO) > 1 or (VIDEO in self.parts and FRAME in self.parts):
            raise UserError(
                f"a prompt has the parts {self.parts}; use {VIDEO} once, or {FRAME} for each frame"
            )
        if not all(self.answers):
            raise UserError(f"a prompt has the answers {self.answers}; give each a text")


@dataclass(frozen=True)
class Subtitle:
    """A line that is spoken or shown from `start` to `end`, in seconds of the video."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class VideoQuestion:
    """A question with options, two to eight of one's own, about a video or a folder of frames.

    Attributes:
        id: of this record alone, within its benchmark.
        video: file, or folder of frames; need not exist before it is read.
        question: without its options.
        options: without letters.
        answer: index of the right option; None where the authors keep it to themselves.
        category: what results are reported by, for example the benchmark's task.
        abilities: what else they are reported by, where a question needs several.
        duration: of the video, in seconds, where the record says it.
        duration_group: how the benchmark names its kinds of length.
        group: what intervals are clustered by; empty: the video.
        start: second at which the part asked about begins; None: the video's beginning.
        end: second at which it ends; None: the video's end.
        folder_fps: pictures a second, where the video is a folder of frames.
        subtitles: in order of time.
        prompt: how it is asked; None: the benchmark says it.
        as_published: asked and counted although it would be refused of one's own: with a single
            option, without words, or with no option that is right (`NONE_RIGHT`).
    """

    id: str
    video: Path
    question: str
    options: tuple[str, ...]
    answer: int | None
    category: str = ""
    duration: float | None = None
    duration_group: str = ""
    group: str = ""
    start: float | None = None
    end: float | None = None
    folder_fps: float = 1.0
    subtitles: tuple[Subtitle, ...] = ()
    prompt: Prompt | None = None
    abilities: tuple[str, ...] = ()
    as_published: bool = False

    def __post_init__(self) -> None:
        fewest, first = (1, NONE_RIGHT) if self.as_published else (2, 0)
        if not (self.question.strip() or self.as_published):
            raise UserError(f"record {self.id} asks nothing; give it a question")
        named = (self.category, self.duration_group, *self.abilities)
        shown = (self.id, self.question, *self.options, *named)
        if any("\ud800" <= character <= "\udfff" for text in shown for character in text):
            raise UserError(
                f"record {self.id} holds half a surrogate pair, which is no character; mend it"
            )
        if not fewest <= len(self.options) <= len(LETTERS):
            raise UserError(
                f"record {self.id} has {len(self.options)} options; give {fewest} to {len(LETTERS)}"
            )
        if self.answer is not None and not first <= self.answer < len(self.options):
            raise UserError(
                f"record {self.id} has {len(self.options)} options and its answer is option"
                f" {self.answer}; count from 0 to {len(self.options) - 1}"
            )
        if (self.end is not None and self.end <= (self.start or 0)) or (self.start or 0) < 0:
            raise UserError(
                f"record {self.id} is about seconds {self.start} to {self.end} of its video;"
                " give a part of some length"
            )


@dataclass(frozen=True)
class BrokenRecord:
    """A record that could not be read; a run counts it as failed and goes on.

    Attributes:
        id: as the record says it, or its place in the file.
        reason: one sentence that names the record.
    """

    id: str
    reason: str

"""StreamingBench (https://arxiv.org/abs/2411.03628): questions in the middle of a video.

A question comes at a time, and no frame from then on is seen. Frames before it go through the model
in order and the cache is pruned after every interval of tokens, as while the video goes on: asking
each question of a video by itself gives what one pass with the questions in between would.

Reads the authors' `questions_real.json`, `questions_omni.json` and `questions_sqa.json` with the
videos as their `preprocess.sh` names them (`videos/sample_1_real.mp4`) or as they unzip
(`data/real/sample_1/`). Sounds are not heard. The proactive questions, in which the model says when
to speak, are left out. As in the authors' `count.py` the first character of a reply is its letter;
an empty one is wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from transfer.tasks.video.files import Row, identify, read_rows
from transfer.tasks.video.places import exists
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video_prompts import letters
from transfer.tasks.video_records import LETTERS, VIDEO, Prompt, VideoQuestion

_ROLE = "You are an advanced video question-answering AI assistant. You have been provided with"
_LETTER = "Respond with only the letter (A, B, C, or D) of the correct option."
_ALONE = (
    f"{_ROLE} some frames from the video and a multiple-choice question related to the video. Your"
    " task is to carefully analyze the video and provide the best answer to question, choosing from"
    f" the four options provided. {_LETTER}"
)
_AFTER = (
    f"{_ROLE} a video and a multiple-choice question related to the video. Your task is to"
    " carefully analyze the video and the provided context to answer the question, choosing from"
    f" the four options provided. {_LETTER}"
)
_EARLIER = (
    "Here are the contextual information related to the video. Please answer the questions based on"
    " the contextual information: "
)
_APART = "Here is the question. Answer it and don't confuse it with the previous conversation."
#: Options that the authors show, of the few questions that have more too.
_SHOWN = 4
#: What is shown at the second of a question is not seen any more.
_BEFORE = 1e-3


@dataclass(frozen=True)
class StreamingBench(PublishedTask):
    """A part of StreamingBench.

    Attributes:
        part: real (visual), omni (with sounds, which are not heard) or sqa (after other questions,
            whose answers are told).
        context: seconds of the video before a question that are seen; None: all.
    """

    name: str = "streamingbench"
    part: str = "real"
    context: int | None = None

    def __post_init__(self) -> None:
        name = f"questions_{self.part}.json"
        places = ("", "src/data/", "data/", "StreamingBench/", "StreamingBench/src/data/")
        object.__setattr__(self, "patterns", tuple(f"{place}{name}" for place in places))
        layout = (
            f"{self.name} has {name} with videos/ beside it, which the authors' preprocess.sh"
            f" fills, or the unzipped data/{self.part}/"
        )
        object.__setattr__(self, "layout", layout)

    def rows(self, file: Path) -> Iterable[Row]:
        """One row a question."""
        return identify(file, [one for video in read_rows(file) for one in _questions(video)])

    def question(self, row: Row) -> VideoQuestion:
        """The question of a row, about the video before its time."""
        second, options = _seconds(row), row.verbatim_texts("options")[:_SHOWN]
        return VideoQuestion(
            row.id,
            _video(row),
            row.verbatim("question"),
            options,
            row.letter("answer"),
            category=row.text("task_type"),
            start=float(max(0, second - self.context) if self.context else 0),
            end=second - _BEFORE,
            prompt=self._prompt(row, options),
        )

    def _prompt(self, row: Row, options: Sequence[str]) -> Prompt:
        """The authors' prompt; what was asked before stands in it where the part has it."""
        lines = "\n".join(_lettered(options))
        text = f"Question: {row.verbatim('question')}\n\nOptions:\n{lines}\n\nThe best option is:"
        begin = f"{_AFTER}\n\n{row.get('earlier') or ''}\n\n{_APART}\n"
        begin = begin if self.part == "sqa" else f"{_ALONE}\n\n"
        return Prompt((VIDEO, f"\n{begin}{text}"), letters(options))

    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """The same for all frames."""
        assert question.prompt is not None
        return question.prompt

    def parse(self, reply: str, question: VideoQuestion) -> int | None:
        """The option whose letter the first character is."""
        return LETTERS.index(reply[0]) if reply[:1] in letters(question.options) else None

    def frames_of(self, question: VideoQuestion, most: int) -> int:
        """At most one frame a second."""
        assert question.end is not None
        return min(most, max(1, ceil(question.end - (question.start or 0.0))))


def _questions(video: Any) -> Iterable[object]:
    """The questions of an entry: of a part of a video, or of all parts of one in their order."""
    parts, earlier = video if isinstance(video, list) else [video], ""
    for part in parts:
        asked = part.get("questions") if isinstance(part, Mapping) else None
        if not isinstance(asked, list):
            yield part
            continue
        for one in asked:
            about = {"video_path": part.get("video_path")}
            if isinstance(video, list):
                about["earlier"] = earlier
                earlier = (earlier or _EARLIER) + _told(one)
            yield {**about, **one} if isinstance(one, Mapping) else one


def _told(one: Any) -> str:
    """What later questions about the same video are told of this one."""
    if not isinstance(one, Mapping) or not isinstance(one.get("options"), list):
        return ""
    options = _lettered([str(option) for option in one["options"][:_SHOWN]])
    return (
        f"At timestamp {one.get('time_stamp')}, the following question and answer occurred:"
        f" Question: {one.get('question')}; Options: {', '.join(options)}; Answer:"
        f" {one.get('answer')}; "
    )


def _lettered(options: Sequence[str]) -> Sequence[str]:
    """With letters, which most have already."""
    if options and options[0].startswith("A."):
        return options
    return [f"{letter}. {option}" for letter, option in zip(LETTERS, options)]


def _seconds(row: Row) -> int:
    """When a question comes.

    Raises:
        UserError: that is no time such as 00:03:10, or the beginning of the video.
    """
    stamp = row.text("time_stamp")
    parts = stamp.split(":")
    if not all(part.isascii() and part.isdecimal() for part in parts) or len(parts) > 3:
        raise row.error(f"has 'time_stamp' {stamp!r}", "write it like 00:03:10")
    seconds = sum(60**place * int(part) for place, part in enumerate(reversed(parts)))
    if not seconds:
        raise row.error(f"has 'time_stamp' {stamp!r}", "a question comes after the first frame")
    return seconds


def _video(row: Row) -> Path:
    """As preprocessed, under its name or its whole path; as unzipped, the one in its folder."""
    told = Path(row.text("video_path"))
    path = row.located((".", "videos"), (str(told), told.name))
    if exists(path) or row.folder is None:
        return path
    sample, number, part = (*told.stem.split("_", 2), "", "", "")[:3]
    kinds = (part, part.replace("_", " "))
    folder = row.folder.find([f"{kind}/{sample}_{number}" for kind in kinds])
    videos = sorted(folder.glob("*.mp4")) if folder else []
    return videos[0] if videos else path

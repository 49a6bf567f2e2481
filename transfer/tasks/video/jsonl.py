"""The user's own questions, one JSON object a line.

`{"video": "cat.mp4", "question": "What jumps?", "options": ["a cat", "a dog"], "answer": "A"}`. An
option may begin with its letter, if all do (`"A. a cat"`). An answer is an option's letter, its
text, or as a number its index from 0. `id`, `category`, `group`, `start` and `end` (in seconds) may
stand beside them, and `folder_fps`, the pictures a second (1.0 by default) where the video is a
folder of pictures.
"""

from dataclasses import dataclass

from transfer.tasks.video.files import Row, unlettered
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video_records import LETTERS, VideoQuestion


@dataclass(frozen=True)
class OwnQuestions(PublishedTask):
    """Questions about the user's own videos; their paths are relative to the file."""

    name: str = "jsonl"
    patterns: tuple[str, ...] = ("*.jsonl",)
    layout: str = "a video's path is relative to the file of questions"

    def question(self, row: Row) -> VideoQuestion:
        """The question of one line."""
        given, rate = row.texts("options"), row.number("folder_fps")
        options = unlettered(given)
        return VideoQuestion(
            row.id,
            row.file.parent / row.text("video"),
            row.text("question"),
            options,
            _answer(row, options, given),
            category=row.text("category") if row.get("category") else "",
            group=row.text("group") if row.get("group") else "",
            start=row.number("start"),
            end=row.number("end"),
            folder_fps=1.0 if rate is None else rate,
        )


def _answer(row: Row, options: tuple[str, ...], given: tuple[str, ...]) -> int | None:
    """An index from 0, an option's text, or a letter; a text that is an option counts as that."""
    value = row.get("answer")
    if not isinstance(value, str):
        index, text = row.index("answer"), str(value)
        if index is not None and text in options and options.index(text) != index:
            raise row.error(
                f"has the answer {value!r}, which is the text of one option and the index of"
                " another",
                "give the option's letter",
            )
        return index
    for texts in (options, given):
        if value.strip() in texts:
            return texts.index(value.strip())
    if value.strip().upper() in tuple(LETTERS):
        return row.letter("answer")
    raise row.error(
        f"has the answer {value!r}, which is none of its options",
        "give an option's text, letter, or index from 0",
    )

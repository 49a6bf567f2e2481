"""LongVideoBench (https://arxiv.org/abs/2407.15754): long videos with subtitles between frames.

Reads `lvb_val.json` (or `validation-*.parquet` of the Hub) with `videos/` and `subtitles/`; with
`--data DIR/lvb_test_wo_gt.json` the test set, whose answers are withheld. As the
authors' loader does, frames are the beginnings of equal segments, at most one a second. Unlike it,
a reply without a letter is wrong; theirs is given a random one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transfer.errors import UserError
from transfer.tasks.video.files import Row
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video.subtitles import between_frames, read_json_subtitles
from transfer.tasks.video_prompts import Sampling, asked, letters
from transfer.tasks.video_records import LETTERS, Prompt, Subtitle, VideoQuestion


@dataclass(frozen=True)
class LongVideoBench(PublishedTask):
    """LongVideoBench, its validation set by default.

    Attributes:
        subtitles: whether they stand between the frames.
    """

    name: str = "longvideobench"
    sampling: Sampling = "segment"
    tokens: int = 32
    groupings: tuple[str, ...] = ("category", "duration_group")
    patterns: tuple[str, ...] = (
        "lvb_val.json",
        "lvb_val.jsonl",
        "validation-*.parquet",
        "*/validation-*.parquet",
    )
    layout: str = (
        "longvideobench has lvb_val.json with videos/ and subtitles/ beside it, of which"
        " `cat videos.tar.part.* | tar x` and `tar xf subtitles.tar` make these"
    )
    subtitles: bool = True

    def question(self, row: Row) -> VideoQuestion:
        """The question of a row, in either form."""
        duration = row.number("duration")
        return VideoQuestion(
            row.id,
            row.located(("videos", "."), (row.text("video_path"),)),
            row.text("question"),
            _options(row),
            # So the test set says that the answer is withheld.
            None if row.get("correct_choice") in (-1, "-1") else row.index("correct_choice"),
            category=row.text("question_category"),
            duration=duration,
            duration_group=row.text("duration_group"),
            subtitles=self._subtitles(row, duration) if self.subtitles else (),
        )

    def _subtitles(self, row: Row, duration: float | None) -> tuple[Subtitle, ...]:
        path = row.located(("subtitles",), (row.text("subtitle_path"),))
        if not path.is_file():
            raise UserError(
                f"record {row.id} has no subtitles {path}; unpack subtitles.tar, or use"
                " longvideobench-no-subtitles"
            )
        begin = row.number("starting_timestamp_for_subtitles") or 0.0
        return read_json_subtitles(path, begin, duration)

    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """Frames and subtitles, then the question."""
        frames = between_frames(question.subtitles, clip_seconds)
        text = f"\nQuestion: {asked(question)}"
        return Prompt((*frames, text), letters(question.options))

    def submission(self, said: Sequence[tuple[VideoQuestion, int | None, str]]) -> dict[str, str]:
        """A letter for each id; where none can be read, the reply."""
        return {
            question.id: reply if option is None else LETTERS[option]
            for question, option, reply in said
        }

    def frames_of(self, question: VideoQuestion, most: int) -> int:
        """At most one frame a second."""
        return min(most, max(1, int(question.duration or most)))


def _options(row: Row) -> tuple[str, ...]:
    if row.get("candidates") is not None:
        return row.texts("candidates")
    padded = (row.get(f"option{place}") for place in range(5))
    return tuple(str(text).strip() for text in padded if text is not None and text != "N/A")

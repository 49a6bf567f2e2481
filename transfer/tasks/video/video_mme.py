"""Video-MME (https://arxiv.org/abs/2405.21075): short, medium and long videos, four options.

Reads the Hub's `videomme/test-*.parquet` or the authors' JSON, with videos in `data/`, `video/` or
`videos/` and subtitles in `subtitle/`, in folders of these (by length or domain), or in the zips
of the download.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transfer.errors import UserError
from transfer.tasks.video.archives import archive_of, unpacked
from transfer.tasks.video.files import Row, identify, read_rows, unlettered
from transfer.tasks.video.places import with_suffixes
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video.subtitles import read_srt, spoken_at
from transfer.tasks.video_prompts import lettered, letters
from transfer.tasks.video_records import VIDEO, Prompt, Subtitle, VideoQuestion


@dataclass(frozen=True)
class VideoMME(PublishedTask):
    """Video-MME.

    Attributes:
        subtitles: whether what is said at the frames stands in the prompt.
    """

    name: str = "video-mme"
    groupings: tuple[str, ...] = ("duration_group", "category")
    patterns: tuple[str, ...] = (
        "videomme/test-*.parquet",
        "test-*.parquet",
        "*.jsonl",
        "*.json",
        "*.parquet",
    )
    ids: str = "{question_id}"
    layout: str = (
        "video-mme has videomme/test-00000-of-00001.parquet, and data/ and subtitle/ or the zips"
        " (videos_chunked_01.zip, subtitle.zip) that hold them"
    )
    subtitles: bool = False

    def rows(self, file: Path) -> Iterable[Row]:
        """One row a question, also where the file has one entry a video."""
        rows = (question for entry in read_rows(file) for question in _questions(entry))
        return identify(file, rows, self.ids)

    def question(self, row: Row) -> VideoQuestion:
        """The question of a row; its options begin with their letters."""
        video = row.text("videoID", "video_id")
        return VideoQuestion(
            row.id,
            row.located(("data", "video", "videos"), with_suffixes(video)),
            row.text("question"),
            unlettered(row.texts("options", "choices")),
            row.letter("answer"),
            category=row.text("task_type"),
            duration_group=row.text("duration"),
            subtitles=_subtitles(row, video) if self.subtitles else (),
        )

    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """The authors' prompt, with or without subtitles."""
        said, source = "", "the video"
        if self.subtitles:
            lines = spoken_at(question.subtitles, clip_seconds) or ["No subtitles available"]
            said = "\n".join(("This video's subtitles are listed below:", *lines, ""))
            source = "the video and the subtitles"
        names = letters(question.options)
        text = (
            f"\n{said}Select the best answer to the following multiple-choice question based on"
            f" {source}. Respond with only the letter ({', '.join(names[:-1])}, or {names[-1]}) of"
            f" the correct option.\n{question.question}\n{lettered(question.options)}\n"
            "The best answer is:"
        )
        return Prompt((VIDEO, text), names)


def _questions(entry: object) -> Iterable[object]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("questions"), list):
        return (entry,)
    about = {name: value for name, value in entry.items() if name != "questions"}
    return [{**about, **one} if isinstance(one, Mapping) else one for one in entry["questions"]]


def _subtitles(row: Row, video: str) -> tuple[Subtitle, ...]:
    """Of one video; many have none, but then the folder is there."""
    folders = ("subtitle", "subtitles")
    with unpacked(row.located(folders, (f"{video}.srt",))) as path:
        if path.is_file():
            return read_srt(path)
    folder = row.located((".",), folders)
    if folder.is_dir() or archive_of(folder):
        return ()
    raise UserError(
        f"record {row.id} has no subtitles, as there is no folder {folder}; unpack subtitle.zip, or"
        " use video-mme"
    )

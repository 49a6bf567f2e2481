"""What benchmarks that lie in files as their authors publish them have in common."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transfer.errors import UserError
from transfer.tasks.video.files import Row, convert, identify, read_rows, spread
from transfer.tasks.video.places import Folder, find_files
from transfer.tasks.video_prompts import VideoTask, asked, letters
from transfer.tasks.video_records import VIDEO, BrokenRecord, Prompt, VideoQuestion


@dataclass(frozen=True)
class PublishedTask(VideoTask):
    """Multiple-choice questions from files.

    Attributes:
        patterns: of the files, the first that fits counts.
        ids: what the ids of records are made of, in braces their fields.
    """

    patterns: tuple[str, ...] = ()
    ids: str = "{id}"

    def read(
        self, data: Path | None, questions: int | None = None
    ) -> list[VideoQuestion | BrokenRecord]:
        """The records; those that cannot be read are broken."""
        files = find_files(self.name, data, self.patterns, self.layout)
        folder = Folder(data if data is not None and data.is_dir() else files[0].parent)
        rows = [replace(row, folder=folder) for file in files for row in self.rows(file)]
        if not rows:
            raise UserError(f"{files[0]} holds no records of {self.name}; check --data")
        return convert(spread(rows, questions), self.question)

    def rows(self, file: Path) -> Iterable[Row]:
        """What is in one file.

        Raises:
            UserError: it cannot be read.
        """
        return identify(file, read_rows(file), self.ids)

    @abstractmethod
    def question(self, row: Row) -> VideoQuestion:
        """The question of a row.

        Raises:
            UserError: what is wrong with it.
        """

    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """The video, the question, its options with letters, and the request for a letter."""
        return Prompt((VIDEO, "\n" + asked(question)), letters(question.options))

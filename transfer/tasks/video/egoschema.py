"""EgoSchema (https://arxiv.org/abs/2308.09126): three-minute videos of daily life, five options.

Reads the authors' `questions.json`, or the Hub's `Subset/*.parquet`, with videos in `videos/`. Of
5031 questions 500 have published answers: with `subset_answers.json` beside the questions those
are asked, without it all, and none can be scored.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.errors import UserError
from transfer.tasks.video.files import Row, identify, read_object, read_rows, unlettered
from transfer.tasks.video.places import with_suffixes
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video_records import VideoQuestion


@dataclass(frozen=True)
class EgoSchema(PublishedTask):
    """EgoSchema, the subset with answers where it is there."""

    name: str = "egoschema"
    patterns: tuple[str, ...] = (
        "Subset/*.parquet",
        "questions.json",
        "*.jsonl",
        "MC/*.parquet",
    )
    groupings: tuple[str, ...] = ()
    ids: str = "{video_idx}"
    layout: str = (
        "egoschema has questions.json (with subset_answers.json) or Subset/*.parquet, and videos/"
        " or the zips (videos_chunked_01.zip) that hold them"
    )

    def rows(self, file: Path) -> Iterable[Row]:
        """The questions, with the answers of the subset if they lie beside them."""
        rows, answers = read_rows(file), file.with_name("subset_answers.json")
        if not (rows and isinstance(rows[0], dict) and "q_uid" in rows[0]):
            return identify(file, rows, self.ids)
        if answers.is_file():
            rows = _answered(rows, read_object(answers))
        return identify(file, rows, "{q_uid}")

    def submission(self, said: Sequence[tuple[VideoQuestion, int | None, str]]) -> dict[str, int]:
        """An index for each id, as the authors' `validate.py` takes them, where one was said."""
        return {question.id: option for question, option, _ in said if option is not None}

    def question(self, row: Row) -> VideoQuestion:
        """The question of a row, in either form."""
        listed = row.get("option") is not None
        texts = row.texts("option") if listed else [row.text(f"option {n}") for n in range(5)]
        return VideoQuestion(
            row.id,
            row.located(("videos",), with_suffixes(row.text("video_idx", "q_uid"))),
            row.text("question"),
            unlettered(texts),
            row.index("answer"),
        )


def _answered(rows: list[Any], answers: dict[str, Any]) -> list[Any]:
    known = [row for row in rows if isinstance(row, dict) and row.get("q_uid") in answers]
    if not known:
        raise UserError("subset_answers.json answers none of the questions; check both files")
    return [{**row, "answer": answers[row["q_uid"]]} for row in known]

"""NExT-QA (https://arxiv.org/abs/2105.08276): causal, temporal and descriptive questions.

Reads the authors' `val.csv` or `test.csv` of the multiple-choice task, or the Hub's `MC/*.parquet`,
with videos in `videos/` or `NExTVideo/`, by their own names or as `map_vid_vidorID.json` says.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from transfer.tasks.video.files import Row, read_object
from transfer.tasks.video.places import locate, with_suffixes
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video_records import VideoQuestion

_KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}


@dataclass(frozen=True)
class NextQA(PublishedTask):
    """NExT-QA's multiple-choice questions, five options each."""

    name: str = "next-qa"
    patterns: tuple[str, ...] = (
        "val.csv",
        "test.csv",
        "*/val.csv",
        "*/test.csv",
        "MC/*.parquet",
        "*.json",
        "*.jsonl",
    )
    ids: str = "{video}_{qid}"
    layout: str = (
        "next-qa has val.csv, test.csv or MC/*.parquet, and videos/ or NExTVideo/ beside it"
    )

    def question(self, row: Row) -> VideoQuestion:
        """The question of a row."""
        video, kind = row.text("video"), row.text("type")
        if kind[:1] not in _KINDS:
            raise row.error(f"has the type {kind!r}", "use one that begins with C, T or D")
        names = (video, _vidor(row.file.parent).get(video, video))
        files = tuple(file for name in dict.fromkeys(names) for file in with_suffixes(name))
        return VideoQuestion(
            row.id,
            row.located(("videos", "video", "NExTVideo"), files),
            row.text("question"),
            tuple(row.text(f"a{place}") for place in range(5)),
            row.index("answer"),
            category=_KINDS[kind[0]],
        )


@lru_cache(maxsize=1)
def _vidor(folder: Path) -> dict[str, str]:
    """Names that VidOR gives the videos, with their folder."""
    path = locate(folder / "file", (".",), ("map_vid_vidorID.json",))
    if not path.is_file():
        return {}
    return {name: str(other) for name, other in read_object(path).items()}

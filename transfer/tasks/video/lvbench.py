"""LVBench (https://arxiv.org/abs/2406.08035): six abilities, asked of videos of an hour or more.

Reads the authors' `video_info.meta.jsonl`, a line a video, with the videos as their script gets
them (`scripts/videos/00000/00000000.mp4`, beside each a JSON file that says its address) or named
after them (`videos/<key>.mp4`). A question may need several abilities and counts in each. Replies
are read as the authors' `polish_answer` does. They publish no prompt; this is lmms-eval's.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transfer.files import read_json
from transfer.tasks.video.files import Row, identify, read_rows
from transfer.tasks.video.places import with_suffixes
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video_prompts import lettered, letters
from transfer.tasks.video_records import LETTERS, VIDEO, Prompt, VideoQuestion

#: Where the letter of an option begins in a question.
_OPTION = re.compile(r"\n\s*\([A-H]\)")


@dataclass(frozen=True)
class LVBench(PublishedTask):
    """LVBench, whose test set has its answers."""

    name: str = "lvbench"
    groupings: tuple[str, ...] = ("abilities",)
    patterns: tuple[str, ...] = ("data/video_info.meta.jsonl", "video_info.meta.jsonl")
    ids: str = "{uid}"
    layout: str = (
        "lvbench has data/video_info.meta.jsonl, and scripts/videos/ as its download.sh fills it or"
        " videos/<key>.mp4"
    )

    def rows(self, file: Path) -> Iterable[Row]:
        """One row a question."""
        addresses = _downloaded(file)
        rows = [one for video in read_rows(file) for one in _questions(video, addresses)]
        return identify(file, rows, self.ids)

    def question(self, row: Row) -> VideoQuestion:
        """The question of a row, in whose text the options stand."""
        asked, *options = (part.strip() for part in _OPTION.split(row.text("question")))
        folders = ("scripts/videos", "videos", "video", "all_videos", ".")
        names = with_suffixes(row.text("key"))
        known = row.get("downloaded")
        return VideoQuestion(
            row.id,
            Path(known) if known else row.located(folders, names),
            asked,
            tuple(options),
            row.letter("answer"),
            category=row.text("type") if row.get("type") else "",
            abilities=row.texts("question_type"),
        )

    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """The question as it is published, and the request for a letter."""
        options = lettered(question.options, "({letter}) {option}")
        text = f"\n{question.question}\n{options}\nAnswer the question with the option letter"
        return Prompt((VIDEO, text), letters(question.options))

    def parse(self, reply: str, question: VideoQuestion) -> int | None:
        """The first letter before a closing bracket, behind the opening one if there is one."""
        before = reply.partition(")")[0].strip()
        said = before.split("(")[1].strip() if "(" in before else before
        letter = said[:1]
        return LETTERS.index(letter) if letter and letter in letters(question.options) else None


def _questions(video: object, addresses: Mapping[str, Path]) -> Iterable[object]:
    """The questions of a line, each with the video's fields; what is no line as it is."""
    if not isinstance(video, Mapping) or not isinstance(video.get("qa"), list):
        return (video,)
    about = {name: video[name] for name in ("key", "type") if name in video}
    about["downloaded"] = str(addresses.get(str(video.get("key")), ""))
    return [{**about, **one} if isinstance(one, Mapping) else one for one in video["qa"]]


def _downloaded(file: Path) -> dict[str, Path]:
    """The videos of the authors' download by their YouTube keys, which end their addresses."""
    roots = (file.parent.parent / "scripts", file.parent.parent, file.parent)
    found = [path for root in roots for path in sorted(root.glob("videos/*/*.json"))]
    told = ((read_json(path), path.with_suffix(".mp4")) for path in found)
    return {
        str(about.get("url")).rpartition("=")[2]: path
        for about, path in told
        if isinstance(about, Mapping)
    }

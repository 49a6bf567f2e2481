"""MLVU (https://arxiv.org/abs/2406.04264): seven tasks about long videos, nine in its test set.

Reads the multiple-choice files of `json/` (dev, four options) or `test_mcq_gt.json` (test, six).
The tasks that ask for free text are left out: their scores come from a paid judge. M-Avg is the
mean over tasks of their accuracies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transfer.tasks.video.files import Row, locate
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video_prompts import Sampling, lettered, letters, parse_letter
from transfer.tasks.video_records import VIDEO, Prompt, VideoQuestion

_SYSTEM = (
    "Carefully watch this video and pay attention to every detail. Based on your observations,"
    " select the best option that accurately addresses the question."
)
#: The same task under its other names.
_TASKS = {"findNeedle": "needle", "needleQA": "needle", "PlotQA": "plotQA"}


@dataclass(frozen=True)
class MLVU(PublishedTask):
    """MLVU's multiple-choice tasks, dev or test, whichever the folder holds."""

    name: str = "mlvu"
    sampling: Sampling = "midpoint"
    aggregation: Literal["micro", "macro"] = "macro"
    patterns: tuple[str, ...] = (
        "json/[1-7]_*.json",
        "MLVU/json/[1-7]_*.json",
        "test-ground-truth/test_mcq_gt.json",
        "test_mcq_gt.json",
        "test_multi_choice_tasks.json",
    )
    ids: str = "{question_id}"

    def question(self, row: Row) -> VideoQuestion:
        """The question of a row; its answer is an option's text."""
        options, task = row.texts("candidates"), row.text("question_type")
        folders = (f"video/{row.file.stem}", "video", "MLVU_Test/video", ".")
        return VideoQuestion(
            row.id,
            locate(row.file, folders, (row.text("video"),)),
            row.text("question"),
            options,
            row.choice("answer", options),
            category=_TASKS.get(task, task),
            duration=row.number("duration"),
        )

    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """The authors' prompt, with the beginning of the answer."""
        return bracketed(question, _SYSTEM, "Best Option: (")

    def parse(self, reply: str, question: VideoQuestion) -> int | None:
        """What stands before the first bracket, as a letter."""
        return parse_bracketed(reply, question)


def bracketed(question: VideoQuestion, system: str, prefill: str) -> Prompt:
    """Options as "(A) ..." and an answer that has begun with "("."""
    text = (
        f"\nQuestion: {question.question}\nOptions:\n"
        f"{lettered(question.options, '({letter}) {option}')}\nOnly give the best option."
    )
    return Prompt((VIDEO, text), letters(question.options), system, prefill)


def parse_bracketed(reply: str, question: VideoQuestion) -> int | None:
    """The letter of a reply that goes on after "("."""
    before, _, _ = reply.partition(")")
    return parse_letter(before if before.strip(" (") else reply, question.options)

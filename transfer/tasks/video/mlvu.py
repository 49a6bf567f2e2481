"""MLVU (https://arxiv.org/abs/2406.04264): seven tasks about long videos, nine in its test set.

Reads the multiple-choice files of `json/` (dev, four options) or `test_mcq_gt.json` (test, six).
The tasks that ask for free text are left out: their scores come from a paid judge. M-Avg is the
mean over tasks of their accuracies.

As in the authors' `choice_bench.py`, all records count, also without words or with an answer that
is no option; of equal options the last is right; and a reply is a letter alone, or the character
before its first closing bracket.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transfer.tasks.video.files import Row
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video_prompts import Sampling, lettered, letters
from transfer.tasks.video_records import LETTERS, VIDEO, Prompt, VideoQuestion

_SYSTEM = (
    "Carefully watch this video and pay attention to every detail. Based on your observations,"
    " select the best option that accurately addresses the question."
)
#: The same task under its other names.
_TASKS = {"findNeedle": "needle", "needleQA": "needle", "PlotQA": "plotQA"}
#: Where the test set has another.
_TEST_TASKS = {"needle": "needleQA"}


@dataclass(frozen=True)
class MLVU(PublishedTask):
    """MLVU's multiple-choice tasks, dev or test, whichever the folder holds."""

    name: str = "mlvu"
    sampling: Sampling = "midpoint"
    aggregation: Literal["micro", "macro"] = "macro"
    patterns: tuple[str, ...] = (
        "json/[1-7]_*.json",
        "MLVU/json/[1-7]_*.json",
        "upload_json/[1-7]_*.json",
        "data/[1-7]_*.json",
        "[1-7]_*.json",
        "test-ground-truth/test_mcq_gt.json",
        "test_mcq_gt.json",
        "test_multi_choice_tasks.json",
        "*/test_question.json",
        "test_question.json",
    )
    ids: str = "{question_id}"
    layout: str = (
        "mlvu has json/1_plotQA.json to json/7_topic_reasoning.json and the videos of each in"
        " video/1_plotQA/ and so on, in its test set test_mcq_gt.json and video/"
    )

    def question(self, row: Row) -> VideoQuestion:
        """The question of a row; its answer is an option's text."""
        options, task = row.verbatim_texts("candidates"), row.text("question_type")
        task = _TASKS.get(task, task)
        folders = (f"video/{row.file.stem}", f"video/{task}", "video", "MLVU_Test/video", ".")
        return VideoQuestion(
            row.id,
            row.located(folders, (row.text("video"),)),
            row.verbatim("question"),
            options,
            row.last_choice("answer", options),
            category=task,
            duration=row.number("duration"),
            as_published=True,
        )

    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """The authors' prompt, with the beginning of the answer."""
        return bracketed(question, _SYSTEM, "Best Option: (")

    def parse(self, reply: str, question: VideoQuestion) -> int | None:
        """The character before the first bracket, else the whole reply, as a letter."""
        before, bracket, _ = reply.partition(")")
        said = before[-1:] if bracket else reply
        return LETTERS.index(said) if said and said in letters(question.options) else None

    def submission(
        self, said: Sequence[tuple[VideoQuestion, int | None, str]]
    ) -> list[dict[str, Any]]:
        """As in the authors' `test_res.json`; a reply without a letter is given as it is."""
        return [
            {
                "question_id": question.id,
                "question_type": _TEST_TASKS.get(question.category, question.category),
                "option": reply if option is None else LETTERS[option],
            }
            for question, option, reply in said
        ]


def bracketed(question: VideoQuestion, system: str, prefill: str) -> Prompt:
    """Options as "(A) ..." and an answer that has begun with "("."""
    asked = (
        f"\nQuestion: {question.question}\nOptions:\n"
        f"{lettered(question.options, '({letter}) {option}')}"
    )
    text = f"{asked.rstrip()}\nOnly give the best option."
    return Prompt((VIDEO, text), letters(question.options), system, prefill)

"""MVBench (https://arxiv.org/abs/2311.17005): twenty tasks of 200 questions about short clips.

Reads `json/<task>.json` with the videos in `video/` as the authors' archives unpack, or in the
archives. The score is the mean over tasks.

As in the authors' `mvbench.ipynb`, all records count, also those with one option; of equal options
the last is right; and the first word of a reply decides, with or without brackets. But an empty
reply is wrong, and two letters in one word mean the first; their comparison of parts of words takes
them for every option, or for both (and lmms-eval leaves empty replies out of the mean).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transfer.tasks.video.files import Row
from transfer.tasks.video.mlvu import bracketed
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video_prompts import Sampling, letters
from transfer.tasks.video_records import Prompt, VideoQuestion

_SYSTEM = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail"
    " and movement of objects, and the action and pose of persons. Based on your observations,"
    " select the best option that accurately addresses the question."
)
_CLEVRER, _PERCEPTION, _STAR = (
    "clevrer/video_validation",
    "perception/videos",
    "star/Charades_v1_480",
)
#: Where the videos of each task are.
FOLDERS = {
    "action_antonym": "ssv2_video",
    "action_count": _PERCEPTION,
    "action_localization": "sta/sta_video",
    "action_prediction": _STAR,
    "action_sequence": _STAR,
    "character_order": _PERCEPTION,
    "counterfactual_inference": _CLEVRER,
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "fine_grained_pose": "nturgbd",
    "moving_attribute": _CLEVRER,
    "moving_count": _CLEVRER,
    "moving_direction": _CLEVRER,
    "object_existence": _CLEVRER,
    "object_interaction": _STAR,
    "object_shuffle": _PERCEPTION,
    "scene_transition": "scene_qa/video",
    "state_change": _PERCEPTION,
    "unexpected_action": "FunQA_test/test",
}
#: Pictures a second in the folders of frames that episodic reasoning is about.
_TVQA_FPS = 3.0


@dataclass(frozen=True)
class MVBench(PublishedTask):
    """MVBench; a folder may hold some of the tasks only."""

    name: str = "mvbench"
    frames: int = 16
    sampling: Sampling = "midpoint"
    aggregation: Literal["micro", "macro"] = "macro"
    patterns: tuple[str, ...] = ("json/*.json", "*.json")
    layout: str = (
        "mvbench has json/action_antonym.json and so on, and video/ with the authors' archives,"
        " such as video/star.zip or, unpacked, video/star/Charades_v1_480/"
    )

    def question(self, row: Row) -> VideoQuestion:
        """The question of a row; its answer is an option's text, its file the task."""
        task, options = row.file.stem, row.verbatim_texts("candidates")
        folder = FOLDERS.get(task, task)
        roots = ("video/", "video/data0613/", "", "data0613/")
        folders = [f"{root}{folder}" for root in roots]
        return VideoQuestion(
            row.id,
            # Several archives have a video of the same name.
            row.located(folders, (row.text("video"),), unique=False),
            row.verbatim("question"),
            options,
            row.last_choice("answer", options),
            category=task,
            start=row.number("start"),
            end=row.number("end"),
            folder_fps=_TVQA_FPS,
            as_published=True,
        )

    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """The authors' prompt, with the beginning of the answer."""
        return bracketed(question, _SYSTEM, "Best option:(")

    def parse(self, reply: str, question: VideoQuestion) -> int | None:
        """The first option that the first word is, or is a part of, in the authors' comparison."""
        line = reply.strip().split("\n")[0]
        word = f"({line}".lower().split(" ")[0]
        plain = word.replace(".", "")
        for place, letter in enumerate(letters(question.options)):
            option = f"({letter.lower()})"
            if (plain in option and plain != "(") or option in word:
                return place
        return None

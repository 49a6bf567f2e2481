"""MVBench (https://arxiv.org/abs/2311.17005): twenty tasks of 200 questions about short clips.

Reads `json/<task>.json` with the videos in `video/` as the authors' archives unpack. The score is
the mean over tasks; an empty reply is wrong (lmms-eval leaves it out of the mean).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transfer.tasks.video.files import Row, locate
from transfer.tasks.video.mlvu import bracketed, parse_bracketed
from transfer.tasks.video.published import PublishedTask
from transfer.tasks.video_prompts import Sampling
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

    def question(self, row: Row) -> VideoQuestion:
        """The question of a row; its answer is an option's text, its file the task."""
        task, options = row.file.stem, row.texts("candidates")
        folder = FOLDERS.get(task, task)
        folders = [f"{root}/{folder}" for root in ("video", "video/data0613", ".", "data0613")]
        return VideoQuestion(
            row.id,
            locate(row.file, folders, (row.text("video"),)),
            row.text("question"),
            options,
            row.choice("answer", options),
            category=task,
            start=row.number("start"),
            end=row.number("end"),
            folder_fps=_TVQA_FPS,
        )

    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """The authors' prompt, with the beginning of the answer."""
        return bracketed(question, _SYSTEM, "Best option:(")

    def parse(self, reply: str, question: VideoQuestion) -> int | None:
        """What stands before the first bracket, as a letter."""
        return parse_bracketed(reply, question)

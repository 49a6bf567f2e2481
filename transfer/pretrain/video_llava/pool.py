"""The videos of a stage, seen once for all of its steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor
from transformers import LlavaNextVideoForConditionalGeneration

from transfer.pretrain.video_llava.config import Stage
from transfer.pretrain.video_llava.data import Packer, QuestionBatch, read_back
from transfer.pretrain.video_llava.vision import frame_features
from transfer.tasks.base import FIRST_TRAINING_SEED
from transfer.tasks.video_drawing import Flash


@dataclass(frozen=True)
class Pool:
    """Videos of a stage.

    Attributes:
        stage: of training.
        stories: what flashes up in each.
        features: their video tokens, in half precision for they are many.
    """

    stage: Stage
    stories: Sequence[Sequence[Flash]]
    features: Float[Tensor, "videos tokens width"]

    def batch(
        self, packer: Packer, rng: np.random.Generator
    ) -> tuple[QuestionBatch, Float[Tensor, "batch tokens width"]]:
        """Questions about some of the videos, and those videos."""
        chosen = rng.integers(len(self.stories), size=self.stage.batch)
        stories = [self.stories[index] for index in chosen]
        return packer.batch(stories, self.stage.frames, rng), self.features[chosen].float()


@torch.no_grad()
def make_pool(
    model: LlavaNextVideoForConditionalGeneration,
    stages: Sequence[Stage],
    index: int,
    seed: int,
    progress: Progress,
) -> Pool:
    """Make the videos of a stage and look at them.

    Args:
        model: whose vision tower is trained.
        stages: all of them; no two share a video.
        index: of the stage.
        seed: of the run.
        progress: shown.
    """
    stage, stories, features = stages[index], [], []
    first = FIRST_TRAINING_SEED * (seed + 1) + sum(one.videos for one in stages[:index])
    numbers = range(first, first + stage.videos)
    for number in progress.track(numbers, description=f"videos of {stage.frames} frames"):
        flashes, pixels = read_back(number, stage.frames)
        stories.append(flashes)
        features.append(frame_features(model, pixels).flatten(0, 1).half())
    return Pool(stage, stories, torch.stack(features))

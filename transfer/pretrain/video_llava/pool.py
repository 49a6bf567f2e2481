"""The videos of a length, seen once for all the steps that ask about them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor
from transformers import LlavaNextVideoForConditionalGeneration

from transfer.pretrain.video_llava.data import Packer, QuestionBatch, read_back
from transfer.pretrain.video_llava.vision import frame_features
from transfer.tasks.base import FIRST_TRAINING_SEED
from transfer.tasks.video_drawing import Flash
from transfer.tasks.video_recall import FRAMES

#: Videos of a length, at most; no two lengths share one.
_APART = 100_000


@dataclass(frozen=True)
class Pool:
    """Videos of a length.

    Attributes:
        frames: of each.
        stories: what flashes up in each.
        features: their video tokens, in half precision for they are many.
    """

    frames: int
    stories: Sequence[Sequence[Flash]]
    features: Float[Tensor, "videos tokens width"]

    def batch(
        self, packer: Packer, videos: int, ahead: float, rng: np.random.Generator
    ) -> tuple[QuestionBatch, Float[Tensor, "batch tokens width"]]:
        """Questions about some of the videos, ahead of a share of them too, and those videos."""
        chosen = rng.integers(len(self.stories), size=videos)
        stories = [self.stories[index] for index in chosen]
        return packer.batch(stories, self.frames, rng, ahead), self.features[chosen].float()


@torch.no_grad()
def make_pool(
    model: LlavaNextVideoForConditionalGeneration,
    frames: int,
    videos: int,
    seed: int,
    progress: Progress,
) -> Pool:
    """Make videos and look at them.

    Args:
        model: whose vision tower is trained.
        frames: of each.
        videos: so many.
        seed: of the run.
        progress: shown.
    """
    stories, features = [], []
    first = FIRST_TRAINING_SEED * (seed + 1) + frames * _APART
    numbers = range(first, first + videos)
    for number in progress.track(numbers, description=f"videos of {frames} frames"):
        # Of half of the long ones nothing more happens after the first quarter.
        early = frames > FRAMES and number % 2
        flashes, pixels = read_back(number, frames, 0.25 if early else 1.0)
        stories.append(flashes)
        features.append(frame_features(model, pixels).flatten(0, 1).half())
    return Pool(frames, stories, torch.stack(features))

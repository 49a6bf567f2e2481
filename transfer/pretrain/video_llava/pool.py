"""The videos of a length, seen once for all the steps that ask about them.

A model learns some hundreds of videos by heart, so new ones are put together of their frames: the
flashes of some among the grey frames of another. Frames are seen one by one, so this costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
from transfer.tasks.video_recall import FRAMES, make_flashes

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

    def mixed(
        self, packer: Packer, frames: int, videos: int, ahead: float, rng: np.random.Generator
    ) -> tuple[QuestionBatch, Float[Tensor, "batch tokens width"]]:
        """The same of so many new videos of any length, put together of these."""
        made = [self._mix(frames, rng) for _ in range(videos)]
        batch = packer.batch([story for story, _ in made], frames, rng, ahead)
        return batch, torch.stack([features for _, features in made]).float()

    def _mix(
        self, frames: int, rng: np.random.Generator
    ) -> tuple[list[Flash], Float[Tensor, "tokens width"]]:
        every = self.features.unflatten(1, (self.frames, -1))
        ground = int(rng.integers(len(self.stories)))
        shown = {frame for flash in self.stories[ground] for frame in flash.frames}
        grey = [frame for frame in range(self.frames) if frame not in shown]
        # In order, over and over, from any of them.
        turn = (rng.integers(len(grey)) + np.arange(frames)) % len(grey)
        features, story = every[ground, np.array(grey)[turn]], []
        wanted = make_flashes(round(frames * eventful(frames, int(rng.integers(2)))), rng)
        for color, one in zip(rng.permutation(list(self._flashes)).tolist(), wanted):
            known = self._flashes[color]
            video, flash = known[rng.integers(len(known))]
            story.append(replace(flash, start=one.start, length=one.length))
            seen = [flash.frames[place % flash.length] for place in range(one.length)]
            features[list(story[-1].frames)] = every[video, seen]
        return story, features.flatten(0, 1)

    @cached_property
    def _flashes(self) -> dict[str, list[tuple[int, Flash]]]:
        """Flashes by colour, and in which video each is."""
        found: dict[str, list[tuple[int, Flash]]] = {}
        for video, story in enumerate(self.stories):
            for flash in story:
                found.setdefault(flash.color, []).append((video, flash))
        return found


def eventful(frames: int, turn: int) -> float:
    """The share of a video in which all happens: of half of the long ones the first quarter."""
    return 0.25 if frames > FRAMES and turn % 2 else 1.0


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
        flashes, pixels = read_back(number, frames, eventful(frames, number))
        stories.append(flashes)
        features.append(frame_features(model, pixels).flatten(0, 1).half())
    return Pool(frames, stories, torch.stack(features))

"""First the eyes: the vision tower learns to say what is in each cell of a frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from rich.progress import Progress
from torch import Tensor, nn
from transformers import LlavaNextVideoForConditionalGeneration

from transfer.pretrain.trainer import adamw, descend, schedule
from transfer.pretrain.video_llava.data import normalized
from transfer.pretrain.video_llava.model import TOKENS_PER_FRAME
from transfer.tasks.base import FIRST_TRAINING_SEED
from transfer.tasks.video_drawing import CELL, CODECS, COLORS, SHAPES, SIDE, decode, draw, encode
from transfer.tasks.video_recall import make_flash

_FRAMES, _TOGETHER, _CROWD = 16, 96, 4
_COLUMNS = SIDE // CELL
_RATE, _WARMUP = 2e-3, 50


@dataclass(frozen=True)
class Crowd:
    """Frames with several shapes each, and what is in their cells.

    Attributes:
        pixels: the frames, as decoded.
        cells: colour and shape of each cell, counted from 1; 0: nothing but grey.
    """

    pixels: UInt8[np.ndarray, "frames y x 3"]
    cells: Int[Tensor, "frames cells 2"]


def make_crowd(seed: int, videos: int) -> Crowd:
    """Frames of that many videos."""
    parts = [_crowded(FIRST_TRAINING_SEED * (seed + 1) + index) for index in range(videos)]
    return Crowd(
        np.concatenate([pixels for pixels, _ in parts]),
        torch.as_tensor(np.concatenate([cells for _, cells in parts])),
    )


def _crowded(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((seed, 1))
    cells, flashes = np.zeros((_FRAMES, TOKENS_PER_FRAME, 2), np.int64), []
    for frame in range(_FRAMES):
        colors = rng.permutation(list(COLORS)).tolist()
        for cell, color in zip(rng.permutation(TOKENS_PER_FRAME)[:_CROWD].tolist(), colors):
            flash = make_flash(color, cell, frame, 1, rng)
            flashes.append(flash)
            cells[frame, cell] = list(COLORS).index(color) + 1, SHAPES.index(flash.shape) + 1
    how = rng.choice(list(CODECS))
    return decode(encode(draw(flashes, _FRAMES, rng), how)), cells


class CellReader(nn.Module):
    """Linear guesses of what a video token shows: colour, shape and column of the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (len(COLORS) + 1, len(SHAPES) + 1, _COLUMNS)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in sizes)

    def forward(
        self, features: Float[Tensor, "frames cells width"], cells: Int[Tensor, "frames cells 2"]
    ) -> tuple[Float[Tensor, ""], list[float]]:
        """Loss, and the share of right colours, shapes and columns among cells with a shape."""
        columns = torch.arange(TOKENS_PER_FRAME) % _COLUMNS
        wanted = torch.cat([cells, columns.expand(len(cells), -1)[..., None]], -1)
        taken = cells[..., 0] > 0
        loss, right = features.new_zeros(()), []
        for index, head in enumerate(self.heads):
            guess = head(features)
            for some in (taken, ~taken):
                target = wanted[..., index][some]
                loss = loss + nn.functional.cross_entropy(guess[some], target)
            right.append((guess.argmax(-1) == wanted[..., index])[taken].float().mean().item())
        return loss, right


def frame_features(
    model: LlavaNextVideoForConditionalGeneration, pixels: UInt8[np.ndarray, "frames y x 3"]
) -> Float[Tensor, "frames cells width"]:
    """The video tokens of frames, after the projector."""
    found: Any = model.model.get_video_features(normalized(pixels)[None])
    return torch.cat(list(found.pooler_output)).unflatten(0, (len(pixels), -1))


def train_vision(
    model: LlavaNextVideoForConditionalGeneration,
    seed: int,
    steps: int,
    videos: int,
    progress: Progress,
) -> list[float]:
    """Train vision tower and projector on frames of the training seeds.

    Args:
        model: its other parts stay as they are.
        seed: of the run.
        steps: optimiser steps.
        videos: of which the frames are.
        progress: shown.

    Returns:
        Share of right colours, shapes and columns in the last steps.
    """
    crowd, rng = make_crowd(seed, videos), np.random.default_rng((seed, 2))
    reader = _new_reader(model, seed)
    parts = (model.model.vision_tower, model.model.multi_modal_projector, reader)
    weights = [weight for part in parts for weight in part.parameters()]
    optimizer, rights = adamw(weights), []
    for step in progress.track(schedule([steps], _RATE, _WARMUP), description="vision"):
        chosen = rng.integers(len(crowd.pixels), size=_TOGETHER)
        loss, right = reader(frame_features(model, crowd.pixels[chosen]), crowd.cells[chosen])
        descend(optimizer, loss, step.rate, weights)
        rights.append(right)
    return np.mean(rights[-20:], axis=0).tolist()


def _new_reader(model: LlavaNextVideoForConditionalGeneration, seed: int) -> CellReader:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CellReader(model.lm_head.in_features)

"""Pictures of the synthetic videos: coloured shapes flash up among moving grey ones, as h264."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from transfer.video.writer import encode_video

SIDE, CELL, RATE = 64, 16, 4
COLORS = {
    "red": (225, 35, 35),
    "green": (35, 190, 55),
    "blue": (45, 75, 235),
    "yellow": (235, 225, 45),
    "purple": (165, 40, 205),
    "white": (240, 240, 240),
    "cyan": (40, 215, 225),
    "orange": (240, 135, 25),
}
SHAPES = ("square", "ring", "cross")
_RADIUS = 6.0
_CLUTTER, _GREYS, _SPEED = 3, (70, 130), 2.5

Frames = UInt8[np.ndarray, "frames height width 3"]
_Mask = Bool[np.ndarray, "frames height width"]
_Path = Float[np.ndarray, "frames"]


@dataclass(frozen=True)
class Flash:
    """A shape that is seen for a frame or two, standing still.

    Attributes:
        color: one of `COLORS`.
        shape: one of `SHAPES`.
        x: its centre, in pixels from the left.
        y: its centre, in pixels from the top.
        start: its first frame.
        length: frames it is seen in.
    """

    color: str
    shape: str
    x: float
    y: float
    start: int
    length: int

    @property
    def frames(self) -> range:
        """The frames it is seen in."""
        return range(self.start, self.start + self.length)

    @property
    def cell(self) -> int:
        """The square of 16 x 16 pixels it stands in, row by row: one token of the model."""
        return int(self.y // CELL) * (SIDE // CELL) + int(self.x // CELL)


def draw(flashes: Sequence[Flash], frames: int, rng: np.random.Generator) -> Frames:
    """The flashes on dark noise, with grey shapes moving behind them in all frames."""
    noise = rng.integers(15, 50) + rng.integers(-8, 9, (SIDE, SIDE))
    video = np.broadcast_to(noise.clip(0)[None, :, :, None], (frames, SIDE, SIDE, 3))
    video = video.astype(np.uint8)
    for _ in range(_CLUTTER):
        shape, grey = SHAPES[rng.integers(len(SHAPES))], rng.integers(*_GREYS)
        radius = rng.uniform(0.6, 1.2) * _RADIUS
        video[_mask(shape, _walk(frames, rng), _walk(frames, rng), radius)] = grey
    for flash in flashes:
        where = [np.full(flash.length, at) for at in (flash.x, flash.y)]
        seen = video[flash.start : flash.start + flash.length]
        seen[_mask(flash.shape, where[0], where[1], _RADIUS)] = COLORS[flash.color]
    return video


def encode(frames: Frames) -> bytes:
    """The frames as an mp4 file of h264 at `RATE` a second; the same bytes every time."""
    target = io.BytesIO()
    # with B frames x264 makes other bytes now and then
    options = {"crf": "18", "preset": "veryfast", "threads": "1", "bf": "0"}
    encode_video(target, [*frames], Fraction(RATE), options=options)
    return target.getvalue()


def decode(video: bytes | Path) -> Frames:
    """All frames of a video file."""
    import av

    source = io.BytesIO(video) if isinstance(video, bytes) else str(video)
    with av.open(source, "r") as container:
        pictures = container.decode(video=0)
        return np.stack([picture.to_ndarray(format="rgb24") for picture in pictures])


def _walk(frames: int, rng: np.random.Generator) -> _Path:
    """A coordinate that moves at an even speed and turns round at the borders."""
    at = rng.uniform(0, SIDE) + rng.uniform(-_SPEED, _SPEED) * np.arange(frames)
    return SIDE - np.abs(at % (2 * SIDE) - SIDE)


def _mask(shape: str, x: _Path, y: _Path, radius: float) -> _Mask:
    """Where a shape is, for a path of its centre."""
    grid = np.arange(SIDE) + 0.5
    across = np.abs(grid[None, None, :] - x[:, None, None])
    down = np.abs(grid[None, :, None] - y[:, None, None])
    if shape == "square":
        return (across <= 0.85 * radius) & (down <= 0.85 * radius)
    if shape == "cross":
        bar = 0.3 * radius
        return ((across <= bar) & (down <= radius)) | ((across <= radius) & (down <= bar))
    distance = np.hypot(across, down)
    return (distance <= radius) & (distance >= 0.55 * radius)

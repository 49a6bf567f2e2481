"""Pictures of the synthetic videos: coloured shapes flash up among moving grey ones.

No two look alike: noise, light, the size and speed of what moves, and a camera that may shake.
"""

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
_GREYS, _SPEED = (60, 135), 4.0
#: Most pixels that the camera is off its place, to any side.
_SHAKE = 1

# With B frames x264 makes other bytes now and then.
_X264 = {"preset": "veryfast", "threads": "1", "bf": "0"}
_VP9 = {"deadline": "realtime", "cpu-used": "8", "threads": "1", "crf": "36", "b": "0"}
#: Name -> suffix of the file and options of its codec, from the finest to the coarsest.
CODECS = {
    "h264-18": (".mp4", {**_X264, "crf": "18"}),
    "h264-23": (".mp4", {**_X264, "crf": "23"}),
    "h264-28": (".mp4", {**_X264, "crf": "28"}),
    "vp9": (".webm", _VP9),
}

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
        size: of it, 1 being half of what its cell has room for to any side, about.
    """

    color: str
    shape: str
    x: float
    y: float
    start: int
    length: int
    size: float = 1.0

    @property
    def frames(self) -> range:
        """The frames it is seen in."""
        return range(self.start, self.start + self.length)

    @property
    def cell(self) -> int:
        """The square of 16 x 16 pixels it stands in, row by row: one token of the model."""
        return int(self.y // CELL) * (SIDE // CELL) + int(self.x // CELL)


def draw(flashes: Sequence[Flash], frames: int, rng: np.random.Generator) -> Frames:
    """The flashes on a dark ground, with grey shapes moving behind them in all frames."""
    video = _ground(frames, rng)
    for _ in range(rng.integers(2, 6)):
        shape, grey = SHAPES[rng.integers(len(SHAPES))], rng.integers(*_GREYS)
        radius = rng.uniform(0.5, 1.3) * _RADIUS
        video[_mask(shape, _walk(frames, rng), _walk(frames, rng), radius)] = grey
    light = rng.uniform(0.85, 1.05)
    for flash in flashes:
        where = [np.full(flash.length, at) for at in (flash.x, flash.y)]
        seen = video[flash.start : flash.start + flash.length]
        color = np.clip(light * np.array(COLORS[flash.color]), 0, 255)
        seen[_mask(flash.shape, where[0], where[1], flash.size * _RADIUS)] = color
    return _filmed(video, rng)


def _ground(frames: int, rng: np.random.Generator) -> Frames:
    """Noise of any strength, brighter to one side."""
    noise = rng.integers(12, 45) + rng.uniform(0, 12) * rng.uniform(-1, 1, (SIDE, SIDE))
    slope = rng.uniform(-12, 12, 2) @ np.mgrid[0:SIDE, 0:SIDE].reshape(2, -1) / SIDE
    ground = (noise + slope.reshape(SIDE, SIDE)).clip(0, 80).astype(np.uint8)
    return np.broadcast_to(ground[None, :, :, None], (frames, SIDE, SIDE, 3)).copy()


def _filmed(video: Frames, rng: np.random.Generator) -> Frames:
    """As a camera sees it, which may shake and is never without noise."""
    shakes = rng.random() < 0.5
    moves = rng.integers(-_SHAKE, _SHAKE + 1, (len(video), 2)) * shakes
    seen = np.stack([np.roll(one, move, (0, 1)) for one, move in zip(video, moves)])
    # One sheet of noise, laid elsewhere in each frame.
    noise = rng.normal(0, rng.uniform(0, 4), (SIDE, SIDE, 1))
    noise = np.stack(
        [np.roll(noise, move, (0, 1)) for move in rng.integers(SIDE, size=(len(video), 2))]
    )
    return (seen + noise).round().clip(0, 255).astype(np.uint8)


def encode(frames: Frames, how: str = "h264-18") -> bytes:
    """The frames as a video file at `RATE` a second; the same bytes every time.

    Args:
        frames: to be seen one after the other.
        how: one of `CODECS`.
    """
    target = io.BytesIO()
    suffix, options = CODECS[how]
    encode_video(target, [*frames], Fraction(RATE), suffix, options)
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

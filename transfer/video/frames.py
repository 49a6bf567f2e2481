"""`read_clip`: exactly the frames asked for, of a video file or a folder of pictures.

decord reads files where it is installed and known to be exact; PyAV reads the others, file by file.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.video.decord_reader import DecordReader
from transfer.video.folder_reader import FolderReader
from transfer.video.pyav_reader import PyAVReader
from transfer.video.sampling import check_sampling, pick

T = TypeVar("T")


@dataclass(frozen=True)
class Clip:
    """Frames of a video.

    Attributes:
        pixels: RGB, turned upright.
        seconds: when each is shown, from the video's first frame on.
        indices: of the frames in the video.
        duration: of the video in seconds.
        backend: who read it: `decord`, `pyav` or `folder`.
    """

    pixels: UInt8[np.ndarray, "frames height width 3"]
    seconds: tuple[float, ...]
    indices: tuple[int, ...]
    duration: float
    backend: str


@dataclass(frozen=True)
class VideoInfo:
    """A video in numbers.

    Attributes:
        frames: in the whole video.
        fps: mean rate.
        duration: in seconds.
        height, width: in pixels, upright.
    """

    frames: int
    fps: float
    duration: float
    height: int
    width: int


@runtime_checkable
class Reader(Protocol):
    """An open video: the times of its frames, in order, and the frames themselves."""

    backend: str
    seconds: tuple[float, ...]

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "frames height width 3"]:
        """The frames of these indices, in this order."""
        ...


@typed
def read_clip(
    video: Path,
    frames: int | None,
    sampling: str = "uniform",
    *,
    fps: int | float | None = None,
    start: int | float | None = None,
    end: int | float | None = None,
    folder_fps: int | float = 1.0,
) -> Clip:
    """Read frames of a video.

    Args:
        video: a file, or a folder of pictures in the natural order of their names.
        frames: how many; with sampling `fps` the most, or None for all.
        sampling: `uniform` (both ends included), `midpoint` (centres of equal segments), `segment`
            (LongVideoBench) or `fps`.
        fps: frames a second, with sampling `fps`.
        start, end: seconds between which frames are taken.
        folder_fps: pictures a second in a folder of them.

    Raises:
        UserError: the video is missing, cannot be read (with every reader's cause), or has fewer
            frames.
    """
    check_sampling(frames, sampling, fps)

    def clip(reader: Reader) -> Clip:
        inside = _between(video, reader.seconds, start, end)
        if sampling != "fps" and frames is not None and frames > len(inside):
            where = "" if start is None and end is None else " between its bounds"
            raise UserError(
                f"video {video} has {len(inside)} frames{where}, fewer than the {frames} asked for;"
                " ask for fewer"
            )
        chosen = pick([reader.seconds[i] for i in inside], frames, sampling, fps)
        indices = [inside[i] for i in chosen]
        pixels = reader.read(indices)
        if len(pixels) != len(indices):
            raise RuntimeError(f"{len(pixels)} of {len(indices)} frames came out")
        seconds = tuple(reader.seconds[i] for i in indices)
        return Clip(pixels, seconds, tuple(indices), _duration(reader.seconds), reader.backend)

    return _first_that_works(video, clip, folder_fps)


@typed
def probe(video: Path, folder_fps: int | float = 1.0) -> VideoInfo:
    """Length and size of a video.

    Args:
        video: a file, or a folder of pictures.
        folder_fps: pictures a second in a folder of them.

    Raises:
        UserError: the video is missing or cannot be read.
    """

    def info(reader: Reader) -> VideoInfo:
        total, duration = len(reader.seconds), _duration(reader.seconds)
        height, width = reader.read([0]).shape[1:3]
        return VideoInfo(total, total / duration, duration, height, width)

    return _first_that_works(video, info, folder_fps)


def _first_that_works(video: Path, use: Callable[[Reader], T], folder_fps: int | float) -> T:
    """What `use` makes of the first reader that can read the video."""
    video = Path(video)
    try:
        if video.is_dir():
            return use(FolderReader(video, folder_fps))
        exists = video.exists()
    # Not all folders may be read, and not all texts are paths.
    except OSError as error:
        raise UserError(
            f"video {video} cannot be read ({error.strerror}); check the path and who may read it"
        ) from error
    if not exists:
        raise UserError(f"video {video} does not exist; check the path")
    causes = []
    for reader in (DecordReader, PyAVReader):
        try:
            return use(reader(video))
        except UserError:
            raise
        # Decoders raise whatever they like for a broken file, decord's own error an Exception.
        except Exception as error:
            causes.append(f"{reader.backend}: {_reason(error)}")
    raise UserError(
        f"video {video} cannot be read ({'; '.join(causes)}); download or encode it again"
    )


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    # decord puts the time and its own source line before what it says.
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", text.splitlines()[0]).rstrip(".")


def _between(
    video: Path, seconds: Sequence[float], start: int | float | None, end: int | float | None
) -> list[int]:
    first, last = 0.0 if start is None else start, float("inf") if end is None else end
    inside = [i for i, time in enumerate(seconds) if first <= time <= last]
    if not inside:
        raise UserError(
            f"video {video} has no frame between {first} and {last} s, it lasts"
            f" {_duration(seconds):.1f} s; check the bounds"
        )
    return inside


def _duration(seconds: Sequence[float]) -> float:
    """Until the last frame has been shown as long as the others, half a second a lone one."""
    gaps = [after - before for before, after in pairwise(seconds)]
    return seconds[-1] + (median(gaps) if gaps else 0.5)

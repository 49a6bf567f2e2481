"""`read_clip`: exactly the frames asked for, of a video file or a folder of pictures.

A file's index says which frames it has and when they are shown. decord reads those files that it is
installed for and known to be exact on; PyAV reads the others, file by file.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.video.decord_reader import PREFIX, DecordReader
from transfer.video.folder_reader import FolderReader
from transfer.video.index import index_of
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
        notes: what whoever asked for the frames has to know, a sentence each.
    """

    pixels: UInt8[np.ndarray, "frames height width 3"]
    seconds: tuple[float, ...]
    indices: tuple[int, ...]
    duration: float
    backend: str
    notes: tuple[str, ...] = ()


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
    """An open video: the times of its frames, in order, and the frames themselves.

    `notes` says what was done to the frames read last, which nobody asked for.
    """

    backend: str
    seconds: tuple[float, ...]
    duration: float
    notes: tuple[str, ...]

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
    stream: int | None = None,
) -> Clip:
    """Read frames of a video.

    Args:
        video: a file, or a folder of pictures in the natural order of their names.
        frames: how many, or all where there are fewer, and a note says so; with sampling `fps`
            the most, or None for all.
        sampling: `uniform` (both ends included), `midpoint` (centres of equal segments), `segment`
            (LongVideoBench) or `fps`.
        fps: frames a second, with sampling `fps`.
        start, end: seconds between which frames are taken.
        folder_fps: pictures a second in a folder of them.
        stream: number of the video stream in the file; by default the one that the file marks as
            the default, of several the largest.

    Raises:
        UserError: the video is missing, cannot be read (with every reader's cause), has no such
            stream, or no frame within the bounds.
    """
    check_sampling(frames, sampling, fps)

    def clip(reader: Reader) -> Clip:
        inside = _between(video, reader, start, end)
        if sampling == "fps" or frames is None or frames <= len(inside):
            chosen = pick([reader.seconds[i] for i in inside], frames, sampling, fps)
            indices, notes = tuple(inside[i] for i in chosen), ()
        else:
            where = "" if start is None and end is None else " between its bounds"
            fewer = f"{len(inside)} frames{where}, fewer than the {frames} asked for"
            indices, notes = tuple(inside), (f"video {video} has {fewer}; all are taken",)
        pixels = reader.read(indices)
        if len(pixels) != len(indices):
            raise RuntimeError(f"{len(pixels)} of {len(indices)} frames came out")
        notes += tuple(f"video {video} {note}" for note in reader.notes)
        seconds = tuple(reader.seconds[i] for i in indices)
        return Clip(pixels, seconds, indices, reader.duration, reader.backend, notes)

    return _first_that_works(video, clip, folder_fps, stream)


@typed
def probe(video: Path, folder_fps: int | float = 1.0, *, stream: int | None = None) -> VideoInfo:
    """Length and size of a video.

    Args:
        video: a file, or a folder of pictures.
        folder_fps: pictures a second in a folder of them.
        stream: as `read_clip` takes it.

    Raises:
        UserError: the video is missing, cannot be read, or has no such stream.
    """

    def info(reader: Reader) -> VideoInfo:
        total, duration = len(reader.seconds), reader.duration
        height, width = reader.read([0]).shape[1:3]
        return VideoInfo(total, total / duration, duration, height, width)

    return _first_that_works(video, info, folder_fps, stream)


def _first_that_works(
    video: Path, use: Callable[[Reader], T], folder_fps: int | float, stream: int | None
) -> T:
    """What `use` makes of the first reader that can read the video."""
    try:
        if video.is_dir():
            if stream is not None:
                raise UserError(f"folder {video} has no streams; leave stream {stream} out")
            return use(FolderReader(video, folder_fps))
        exists = video.exists()
    # Not all folders may be read, and not all texts are paths.
    except OSError as error:
        raise UserError(
            f"video {video} cannot be read ({error.strerror}); check the path and who may read it"
        ) from error
    if not exists:
        raise UserError(f"video {video} does not exist; check the path")
    # Decoders raise whatever they like for a broken file, decord's own error an Exception.
    try:
        index = index_of(video, stream)
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(video, _reason(error)) from error
    causes = []
    for reader in (DecordReader, PyAVReader):
        try:
            return use(reader(video, index))
        except UserError:
            raise
        except Exception as error:
            causes.append(f"{reader.backend}: {_reason(error)}")
    raise _unreadable(video, "; ".join(causes))


def _unreadable(video: Path, causes: str) -> UserError:
    return UserError(f"video {video} cannot be read ({causes}); download or encode it again")


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return re.sub(PREFIX, "", text.splitlines()[0]).rstrip(".")


def _between(
    video: Path, reader: Reader, start: int | float | None, end: int | float | None
) -> list[int]:
    first, last = 0.0 if start is None else start, float("inf") if end is None else end
    inside = [i for i, time in enumerate(reader.seconds) if first <= time <= last]
    if not inside:
        raise UserError(
            f"video {video} has no frame between {first} and {last} s, it lasts"
            f" {reader.duration:.1f} s; check the bounds"
        )
    return inside

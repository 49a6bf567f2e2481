"""PyAV, for every codec and container: jumps to key frames where the file has an exact index.

Frames are counted as they are shown: without those that an edit list hides.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

#: Containers that say of every frame when it is shown, so that one can jump to it.
EXACT_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")


class PyAVReader:
    """A video file read by PyAV.

    Args:
        video: the file.

    Raises:
        Exception: PyAV cannot read the file.
    """

    backend = "pyav"

    def __init__(self, video: Path) -> None:
        self._video = video
        self._times: list[int] = []
        self._keys: list[int] = []
        with opened(video) as (container, stream):
            self._jumps = container.format.name in EXACT_FORMATS
            if self._jumps:
                self._times = self._index(container, stream)
                seconds = [float(time * (stream.time_base or 0)) for time in self._times]
            else:
                # Without an exact index, frames have to be decoded to be counted.
                seconds = _seconds(container.decode(stream), stream)
        if not seconds:
            raise ValueError("it has no frame")
        self.seconds = relative(seconds)

    def _index(self, container: "InputContainer", stream: "VideoStream") -> list[int]:
        """When the frames are shown, in order, in the stream's unit; finds the key frames too."""
        shown: list[int] = []
        end = count = 0
        for packet in container.demux(stream):
            if not packet.size or packet.pts is None:
                continue
            if packet.is_corrupt:
                raise ValueError(f"it is broken after {count} frames")
            count, end = count + 1, max(end, packet.pts + (packet.duration or 0))
            if packet.is_keyframe:
                self._keys.append(packet.pts)
            if not packet.is_discard:
                shown.append(packet.pts)
        check_whole(container, stream, float(end * (stream.time_base or 0)))
        self._keys.sort()
        return sorted(shown)

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "frames height width 3"]:
        """The frames of these indices, in this order."""
        wanted = set(indices)
        with opened(self._video) as (container, stream):
            if self._jumps:
                frames = self._jump(container, stream, sorted(wanted))
            else:
                frames = enumerate(container.decode(stream))
            found = {i: upright(frame) for i, frame in _until(max(wanted), frames) if i in wanted}
        if missing := sorted(wanted - set(found)):
            raise ValueError(f"frame {missing[0]} of {len(self.seconds)} cannot be decoded")
        return np.stack([found[i] for i in indices])

    def _jump(
        self, container: "InputContainer", stream: "VideoStream", wanted: Sequence[int]
    ) -> Iterator[tuple[int, "VideoFrame"]]:
        """The wanted frames; those in between are decoded only where no key frame lies."""
        frames, now = iter(()), None
        for i in wanted:
            target = self._times[i]
            key = max(bisect_right(self._keys, target) - 1, 0)
            if now is None or self._keys[key] > now:
                frames = self._seek(container, stream, key, target)
            for frame in frames:
                now = frame.pts
                if now is not None and now >= target:
                    if now == target:
                        yield i, frame
                    break

    def _seek(
        self, container: "InputContainer", stream: "VideoStream", key: int, target: int
    ) -> Iterator["VideoFrame"]:
        """Frames from a key frame on, from one before where the container lands behind the target.

        It may: containers look key frames up by decoding time, which is the earlier one.
        """
        frames: Iterator[VideoFrame] = iter(())
        for time in reversed(self._keys[: key + 1]):
            container.seek(time, stream=stream)
            decoded = container.decode(stream)
            if (first := next(decoded, None)) is None or first.pts is None:
                continue
            frames = chain([first], decoded)
            if first.pts <= target:
                break
        return frames


def _seconds(frames: Iterable["VideoFrame"], stream: "VideoStream") -> list[float]:
    """When frames are shown, by the stream's rate where the container does not say it."""
    times = [frame.time for frame in frames]
    known = [time for time in times if time is not None]
    if len(known) == len(times):
        # In order: AVI gives the right times to the wrong frames.
        return sorted(known)
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    return [i / rate for i in range(len(times))]


@contextmanager
def opened(video: Path) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """The file and its video stream, decoded by one thread."""
    import av

    with av.open(str(video)) as container:
        if not container.streams.video:
            raise ValueError("it has no video stream")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        yield container, stream


def check_whole(container: "InputContainer", stream: "VideoStream", end: float) -> None:
    """Refuse a file that ends well before it says it does.

    Args:
        container, stream: of the file.
        end: when its last frame has been shown, in seconds.

    Raises:
        ValueError: it is cut off.
    """
    said = float((stream.duration or 0) * (stream.time_base or 0))
    # Matroska says only how long all streams are, and sound may go on after the pictures.
    if not said and len(container.streams) == 1:
        said = (container.duration or 0) / 1e6
    if end < 0.9 * said - 0.5:
        raise ValueError(f"it is cut off after {end:.1f} of {said:.1f} s")


def relative(times: Sequence[float]) -> tuple[float, ...]:
    """Times from the first one on, in whole milliseconds, which every reader can tell."""
    return tuple(round(time - times[0], 3) for time in times)


def upright(frame: "VideoFrame") -> UInt8[np.ndarray, "height width 3"]:
    """RGB pixels, turned as the file says they are to be shown."""
    return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))


def _until(
    last: int, frames: Iterable[tuple[int, "VideoFrame"]]
) -> Iterator[tuple[int, "VideoFrame"]]:
    for i, frame in frames:
        yield i, frame
        if i >= last:
            return

"""PyAV, for every codec and container: jumps to key frames where the index has any."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from transfer.video.index import Index
from transfer.video.picture import shown_size, upright
from transfer.video.streams import opened

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

#: Key frames that are tried, going back, before the file is read from its beginning.
_TRIES = 4


class PyAVReader:
    """A video file read by PyAV.

    Args:
        video: the file.
        index: of its frames.
    """

    backend = "pyav"

    def __init__(self, video: Path, index: Index) -> None:
        self._video, self._stream, self._size = video, index.stream, (index.height, index.width)
        self.seconds, self.duration = index.milliseconds(), index.duration()
        self.notes: tuple[str, ...] = ()
        self._times, self._keys = index.times.tolist(), index.keys.tolist()
        places = (bisect_left(self._times, key) for key in self._keys)
        #: What comes out first where decoding begins; an edit list may hide the key frame itself.
        self._starts = {self._times[place] for place in places if place < len(self._times)}

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "frames height width 3"]:
        """The frames of these indices, in this order.

        Raises:
            Exception: one cannot be decoded.
        """
        wanted = sorted(set(indices))
        with opened(self._video, self._stream) as (container, stream):
            if self._keys:
                frames = self._jump(container, stream, wanted)
            else:
                frames = _wanted(container.decode(stream), wanted)
            found, other = {}, False
            for i, frame in frames:
                found[i] = upright(frame, self._size)
                other |= shown_size(frame) != self._size
        for i in wanted:
            if i not in found:
                raise ValueError(f"frame {i} of {len(self._times)} cannot be decoded")
        height, width = self._size
        scaled = f"changes its picture's size; all are scaled to the first, {width} x {height}"
        self.notes = (scaled,) if other else ()
        return np.stack([found[i] for i in indices])

    def _jump(
        self, container: "InputContainer", stream: "VideoStream", wanted: Sequence[int]
    ) -> Iterator[tuple[int, "VideoFrame"]]:
        """The wanted frames; those in between are decoded only where no key frame lies."""
        frames, now, jumps = container.decode(stream), None, True
        # Also where another is wanted: what stands in the first packet may hold for all.
        frames = chain([next(frames)], frames)
        for i in wanted:
            target = self._times[i]
            key = bisect_right(self._keys, target) - 1
            if jumps and key > 0 and (now is None or self._keys[key] > now):
                found = self._from_key(container, stream, key, target)
                frames, jumps = (self._beginning(), False) if found is None else (found, True)
            for frame in frames:
                now = frame.pts
                if now is not None and now >= target:
                    if now == target:
                        yield i, frame
                    break

    def _from_key(
        self, container: "InputContainer", stream: "VideoStream", key: int, target: int
    ) -> Iterator["VideoFrame"] | None:
        """Frames from a key frame on, or from one before where that leads behind the target.

        It may: containers look key frames up by decoding time, which is the earlier one.
        """
        for time in self._keys[max(0, key + 1 - _TRIES) : key + 1][::-1]:
            container.seek(time, stream=stream)
            frames = container.decode(stream)
            # What is shown before the key frame refers to what was not decoded.
            for first in frames:
                if first.pts is None or first.pts < time:
                    continue
                if first.pts in self._starts and first.pts <= target:
                    return chain([first], frames)
                break
        return None

    def _beginning(self) -> Iterator["VideoFrame"]:
        with opened(self._video, self._stream) as (container, stream):
            yield from container.decode(stream)


def _wanted(
    frames: Iterable["VideoFrame"], wanted: Sequence[int]
) -> Iterator[tuple[int, "VideoFrame"]]:
    """Those of these numbers, in order; nothing behind the last is decoded."""
    place = 0
    for i, frame in enumerate(frames):
        if i == wanted[place]:
            yield i, frame
            place += 1
            if place == len(wanted):
                return

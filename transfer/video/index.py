"""What a video file says of its frames: read from its packets, with no more decoded than must be.

Times are whole numbers of the stream's unit, so that they can be compared without rounding.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from transfer.video.picture import shown_size, turn
from transfer.video.streams import check_whole, moving, opened
from transfer.video.units import KNOWN_CODECS, is_hidden, may_begin, said_size

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

#: Containers that say of every frame when it is shown, so that one can jump to it.
EXACT_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
#: Of which decord makes the same pixels as PyAV; of more than 8 bits it makes others.
_PLAIN_PIXELS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gbrp")
#: Frames at the beginning that are decoded, to see whether the packets tell the truth.
_TRIED = 8
#: A time that the file does not say.
_UNKNOWN = -(2**63)


@dataclass(frozen=True, eq=False)
class Index:
    """The frames of a video stream.

    Attributes:
        stream: its number in the file.
        unit: of the times, in seconds.
        times: when each frame is shown, in order.
        end: when the last one has been shown.
        keys: times of the packets that a decoder may begin at, in order; none where frames have
            to be decoded from the beginning.
        height, width: of the first frame in pixels, as it is shown.
        misread: in which kind of file decord would misread it; empty where it would not.
    """

    stream: int
    unit: Fraction
    times: Int64[np.ndarray, " frames"]
    end: int
    keys: Int64[np.ndarray, " keys"]
    height: int
    width: int
    misread: str

    def seconds(self) -> Float64[np.ndarray, " frames"]:
        """When each frame is shown, from the first one on."""
        return (self.times - self.times[0]) * self.unit.numerator / self.unit.denominator

    def milliseconds(self) -> tuple[float, ...]:
        """The seconds, rounded to whole milliseconds."""
        return tuple(round(time, 3) for time in self.seconds().tolist())

    def duration(self) -> float:
        """Seconds until the last frame has been shown, where it is not said as long as others."""
        last = self.end - self.times[-1]
        if last <= 0:
            last = np.median(np.diff(self.times)) if len(self.times) > 1 else 0.5 / self.unit
        return float((int(self.times[-1] - self.times[0]) + Fraction(last)) * self.unit)


def index_of(video: Path, stream: int | None = None) -> Index:
    """The index of a file; at hand for those read last, as long as they do not change.

    Args:
        video: the file.
        stream: its number in the file; by default as `opened` chooses.

    Raises:
        UserError: it has no video stream of that number.
        Exception: PyAV cannot read the file, or finds it cut off.
    """
    found = video.stat()
    return _index(video.absolute(), found.st_size, found.st_mtime_ns, stream)


@lru_cache(maxsize=16)
def _index(video: Path, size: int, changed: int, number: int | None) -> Index:
    with opened(video, number) as (container, stream):
        name, several = container.format.long_name, len(moving(container)) > 1
        packets = None
        if container.format.name in EXACT_FORMATS:
            packets = _packets(video, container, stream)
    if packets is None:
        return _counted(video, number, f"in {name} files")
    misread = "in a file of several video streams" if several else packets.misread
    if not packets.distinct:
        return _counted(video, number, misread or "where packets are not in order")
    return _tried(video, number, packets, misread)


class _Packets(NamedTuple):
    """The packets of a stream in the order of decoding, but for those of frames never shown."""

    unit: Fraction
    times: Int64[np.ndarray, " packets"]
    #: When the last one has been shown.
    end: int
    #: By an edit list.
    discarded: Bool[np.ndarray, " packets"]
    #: Marked as key frames; of them those one may begin at; of them those that begin anew.
    marked: Bool[np.ndarray, " packets"]
    is_key: Bool[np.ndarray, " packets"]
    is_new: Bool[np.ndarray, " packets"]
    #: Whether each can be told by its time, and found by it.
    distinct: bool
    #: What else decord would misread; empty if nothing.
    odd: str

    @property
    def misread(self) -> str:
        """In which kind of file decord would misread it; empty if in none."""
        # What is decoded after a key frame and shown before it refers to what came before.
        begun = np.maximum.accumulate(np.where(self.is_key, self.times, np.iinfo(np.int64).min))
        kinds = {
            "in a file cut with an edit list": self.discarded.any(),
            "in a file that begins before a key frame": not self.is_key[0],
            "where frames refer to those before a key frame": (self.times < begun).any(),
            "where a key frame may need what came before": (self.marked & ~self.is_new).any(),
            self.odd: bool(self.odd),
        }
        return next((kind for kind, found in kinds.items() if found), "")


def _packets(video: Path, container: "InputContainer", stream: "VideoStream") -> _Packets:
    codec = stream.codec_context.codec.canonical_name
    rows, hidden, sizes = _rows(video, container, stream)
    times, order, lengths, *flags = rows.T.copy()
    discarded, marked, is_key, is_new = (flag.astype(bool) for flag in flags)
    if discarded.all():
        raise ValueError("it has no frame")
    end = int((times + lengths)[~discarded].max())
    if stream.duration:
        # MP4 says how long all together are shown, and of each only when the next is decoded.
        end = int(times[~discarded].min()) + stream.duration
    ordered = (np.diff(order[order != _UNKNOWN]) > 0).all()
    distinct = _UNKNOWN not in times and ordered and len(np.unique(times)) == len(times)
    kinds = {
        "in a file with frames that are never shown": hidden > 0,
        "in pictures that change their size": len(sizes) > 1,
        f"in {codec}": codec not in KNOWN_CODECS,
    }
    odd = next((kind for kind, found in kinds.items() if found), "")
    unit = Fraction(stream.time_base or 0)
    return _Packets(unit, times, end, discarded, marked, is_key, is_new, bool(distinct), odd)


def _rows(
    video: Path, container: "InputContainer", stream: "VideoStream"
) -> tuple[Int64[np.ndarray, "packets 7"], int, set[bytes]]:
    """Of packets that are shown: when shown and decoded, how long, and four flags of `_Packets`.

    And how many are not shown, and what key frames say of their size.
    """
    codec = stream.codec_context.codec.canonical_name
    settings = stream.codec_context.extradata or b""
    # Hours have 10^5 packets: an array of numbers is made faster than a list of tuples.
    rows = array("q")
    count, hidden, sizes = 0, 0, set[bytes]()
    for packet in container.demux(stream):
        shown, order, size = packet.pts, packet.dts, packet.size
        # The last one only says that there are no more.
        count += size > 0 or order is not None
        if packet.is_corrupt:
            raise ValueError(f"it is broken after {len(rows) // 7} frames")
        if size and is_hidden(packet, codec):
            hidden += 1
        elif size:
            marked, key = packet.is_keyframe, (False, False)
            if marked:
                key = may_begin(packet, codec, settings)
                sizes.add(said_size(packet, codec, settings))
            shown = _UNKNOWN if shown is None else shown
            order = _UNKNOWN if order is None else order
            length, discarded = packet.duration or 0, packet.is_discard
            rows.extend((shown, order, length, discarded, marked, *key))
    check_whole(video, stream, count)
    if not rows:
        raise ValueError("it has no frame")
    return np.array(rows, np.int64).reshape(-1, 7), hidden, sizes


def _tried(video: Path, number: int | None, packets: _Packets, misread: str) -> Index:
    """The index that the packets give, once the first frames came out as they say."""
    key_times = np.sort(packets.times[packets.is_key])
    begin = int(key_times[0] if len(key_times) else packets.times[0])
    with opened(video, number) as (container, stream):
        number, format_name = stream.index, container.format.name
        head = _head(container.decode(stream), begin)
    if not head:
        raise ValueError("no frame of it can be decoded")
    shown = np.sort(packets.times[~packets.discarded])
    came = np.array([-1 if frame.pts is None else frame.pts for frame in head], np.int64)
    said = shown[shown <= came[-1]]
    if not np.array_equal(came[came >= begin], said[said >= begin]):
        return _counted(video, number, "where packets are no frames")
    # A stream that begins in the middle says only now which of its first frames come out.
    times = np.concatenate([came, shown[shown > came[-1]]])
    if len(times) < len(shown):
        misread = misread or "in a file that begins before a key frame"
    misread = misread or _misread_picture(head[0], format_name)
    size = shown_size(head[0])
    return Index(number, packets.unit, times, packets.end, key_times, *size, misread)


def _head(frames: Iterable["VideoFrame"], begin: int) -> list["VideoFrame"]:
    """The first frames, until enough of those from a time on were among them."""
    head, enough = [], 0
    for frame in frames:
        head.append(frame)
        enough += frame.pts is not None and frame.pts >= begin
        if enough == _TRIED:
            break
    return head


def _misread_picture(frame: "VideoFrame", container: str) -> str:
    """In which kind of picture decord would make others of it; empty if in none."""
    swapped, across, down = turn(frame)
    kinds = {
        "in mirrored pictures": swapped ^ across ^ down,
        "in turned pictures of Matroska": container != EXACT_FORMATS[0] and (across or down),
        "in interlaced pictures": frame.interlaced_frame,
        f"in pictures of {frame.format.name}": frame.format.name not in _PLAIN_PIXELS,
    }
    return next((kind for kind, found in kinds.items() if found), "")


def _counted(video: Path, number: int | None, misread: str) -> Index:
    """The index of a file whose frames have to be decoded to be counted."""
    with opened(video, number) as (container, stream):
        times, size, last, number = [], (0, 0), 0, stream.index
        for frame in container.decode(stream):
            size = size if times else shown_size(frame)
            times.append(frame.pts)
            last = frame.duration or 0
        unit = Fraction(stream.time_base or 0)
        if not times:
            raise ValueError("it has no frame")
        if None in times:
            # By the stream's rate where the container does not say when.
            unit = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
            times, last = range(len(times)), 1
    # In order: AVI gives the right times to the wrong frames.
    shown = np.sort(np.array(times, np.int64))
    return Index(number, unit, shown, int(shown[-1]) + last, shown[:0], *size, misread)

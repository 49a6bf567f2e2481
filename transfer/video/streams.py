"""Opening a video file: its one video stream, and whether the file is whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from transfer.errors import UserError

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer


@contextmanager
def opened(
    video: Path, number: int | None = None
) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """The file and one video stream of it, decoded by one thread.

    Args:
        video: the file.
        number: of the stream in the file; by default the one that the container marks as the
            default, of several the largest.

    Raises:
        UserError: it has no video stream of that number.
        Exception: PyAV cannot open the file, or finds no video in it.
    """
    import av

    # A name with a colon would be an address. Titles need not be UTF-8.
    with av.open(str(video.absolute()), metadata_errors="replace") as container:
        stream = _chosen(video, moving(container), number)
        stream.codec_context.thread_count = 1
        yield container, stream


def moving(container: "InputContainer") -> list["VideoStream"]:
    """The video streams of a file; cover pictures are none."""
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return [each for each in container.streams.video if not each.disposition & pictures]


def _chosen(video: Path, found: list["VideoStream"], number: int | None) -> "VideoStream":
    from av.stream import Disposition

    if not found:
        raise ValueError("it has no video stream")
    if number is None:
        return max(found, key=lambda s: (s.disposition & Disposition.default, s.width * s.height))
    for stream in found:
        if stream.index == number:
            return stream
    there = ", ".join(f"{each.index} ({each.width} x {each.height})" for each in found)
    raise UserError(f"video {video} has no video stream {number}; it has {there}")


def check_whole(video: Path, stream: "VideoStream", packets: int) -> None:
    """Refuse a file that has less in it than its own index says.

    Args:
        video: the file.
        stream: of it, read to its end.
        packets: that came out.

    Raises:
        ValueError: it is cut off.
    """
    # PyAV before 16, which lmms-eval wants, shows no index.
    said = len(getattr(stream, "index_entries", range(stream.frames)))
    if packets < said:
        raise ValueError(f"it is cut off after {packets} of {said} frames")
    size, end = video.stat().st_size, _end_of_matroska(video)
    if size < end:
        raise ValueError(f"it is cut off after {size:,} of {end:,} bytes")


def _end_of_matroska(video: Path) -> int:
    """Where the file ends by what it says of itself; 0: it is no Matroska, or does not say."""
    with video.open("rb") as file:
        if file.read(4) != b"\x1a\x45\xdf\xa3":
            return 0
        file.seek(_length(file) or 0, 1)
        if file.read(4) != b"\x18\x53\x80\x67":
            return 0
        length = _length(file)
        return 0 if length is None else file.tell() + length


def _length(file: BinaryIO) -> int | None:
    """The length of an element of Matroska; None: it is not known, as in what is sent live."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more)) & (1 << 7 * (more + 1)) - 1
    return None if value == (1 << 7 * (more + 1)) - 1 else value

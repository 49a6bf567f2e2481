"""Frames to a file: mp4, webm or gif, encoded by PyAV."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from transfer.arguments import typed
from transfer.files import replacing

if TYPE_CHECKING:
    from av import VideoFrame

#: Suffix -> codec and pixel format.
CODECS = {
    ".mp4": ("libx264", "yuv420p"),
    ".webm": ("libvpx-vp9", "yuv420p"),
    ".gif": ("gif", "pal8"),
}

Frames = Sequence[UInt8[np.ndarray, "height width 3"]]


@typed
def write_video(path: Path, frames: Frames, fps: Fraction) -> None:
    """Encode frames of one size, at `fps` a second, into a file whose suffix says how.

    Raises:
        UserError: the file cannot be written.
    """
    with replacing(path) as partial:
        encode_video(str(partial), frames, fps, path.suffix)


def encode_video(
    target: str | BytesIO,
    frames: Frames,
    fps: Fraction,
    suffix: str = ".mp4",
    options: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Encode frames of one size.

    Args:
        target: a path, or a file in memory.
        frames: one or more.
        fps: frames a second.
        suffix: of `CODECS`.
        options: of the codec.
    """
    import av

    codec, pixels = CODECS[suffix]
    # yuv420p halves the colours' resolution, so both sides must be even.
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    pictures = _pictures([frame[:height, :width] for frame in frames], fps)
    # A webm file has a random number in it otherwise.
    exact = {"fflags": "+bitexact"} if suffix == ".webm" else {}
    with av.open(target, "w", format=suffix[1:], options=exact) as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.options = dict(options)
        for picture in _with_palette(pictures) if pixels == "pal8" else pictures:
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _pictures(frames: Frames, fps: Fraction) -> list["VideoFrame"]:
    import av

    pictures = []
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts, picture.time_base = number, 1 / fps
        pictures.append(picture)
    return pictures


def _with_palette(pictures: Sequence["VideoFrame"]) -> Iterator["VideoFrame"]:
    """The pictures in the 256 colours that suit them; undithered, as dots would not compress."""
    import av.filter

    first, graph = pictures[0], av.filter.Graph()
    source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=first.time_base
    )
    split, collect = graph.add("split"), graph.add("palettegen")
    apply = graph.add("paletteuse", "dither=none:diff_mode=rectangle")
    source.link_to(split)
    split.link_to(collect, 0, 0)
    split.link_to(apply, 1, 0)
    collect.link_to(apply, 0, 1)
    apply.link_to(graph.add("buffersink"))
    graph.configure()
    for picture in pictures:
        graph.push(picture)
    graph.push(None)
    # The palette is known after the last picture, and only then do any come out.
    for _ in pictures:
        yield graph.vpull()

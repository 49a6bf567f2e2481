"""32 evenly spread frames of long H.264 files: decord alone, and through the file's index.

The files repeat one group of pictures that is encoded once, so that hours are written in seconds.
`decord` is what reading was before files had an index, right or wrong. `again` is of
a file whose index is at hand. Times are of the process, not of the clock, as runs take minutes.
"""

import os
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8

from benchmarks.measure import Row
from transfer.errors import UserError
from transfer.video.frames import Clip, read_clip
from transfer.video.index import index_of
from transfer.video.sampling import uniform

TITLE = "32 frames of a 1080p H.264 file; seconds of one core"
FRAMES, FPS, SIZE, REPEATS = 32, 25, (1080, 1920), 2
#: Minutes, and frames from one key frame to the next.
FILES = ((10, 250), (10, 50), (120, 250), (120, 50))


def run() -> list[Row]:
    """One row a file.

    Raises:
        UserError: decord is not installed.
    """
    with TemporaryDirectory() as folder:
        return [row(write(Path(folder), *file), *file) for file in FILES]


def row(video: Path, minutes: float, group: int) -> Row:
    """Both ways in turns; the fastest of each."""
    ways: dict[str, Callable[[Path], object]] = {
        "decord": decord_alone,
        "ours": through_index,
        "again": through_index,
        "index": index_of,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            # A file that changed is looked at anew.
            if name != "again":
                os.utime(video)
            began = time.process_time()
            way(video)
            seconds[name].append(time.process_time() - began)
    times = {name: min(each) for name, each in seconds.items()}
    return {
        "minutes": minutes,
        "key frame every": group,
        "MB": round(video.stat().st_size / 1e6),
        **{f"{name} s": round(times[name], 2) for name in ways},
        "ours / decord": round(times["ours"] / times["decord"], 2),
        "reader": through_index(video).backend,
    }


def through_index(video: Path) -> Clip:
    """The frames as the file counts them."""
    return read_clip(video, FRAMES)


def decord_alone(video: Path) -> UInt8[np.ndarray, "frames height width 3"]:
    """The frames as decord counts them."""
    try:
        import decord
    except ImportError as error:
        raise UserError("this needs decord, which is not installed; pip install decord") from error
    reader = decord.VideoReader(str(video), num_threads=1)
    return reader.get_batch(uniform(len(reader), FRAMES)).asnumpy()


def write(folder: Path, minutes: float, group: int, size: tuple[int, int] = SIZE) -> Path:
    """A file of so many minutes with a key frame every `group` frames."""
    import av

    once, video = folder / "once.mp4", folder / f"{minutes}-{group}.mp4"
    with av.open(str(once), "w") as container:
        options = {"g": str(group), "keyint_min": str(group), "bf": "2", "preset": "ultrafast"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        (stream.height, stream.width), stream.pix_fmt = size, "yuv420p"
        for number in range(group):
            frame = av.VideoFrame.from_ndarray(_picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(once)) as source, av.open(str(video), "w") as target:
        [stream] = source.streams.video
        copied, unit = target.add_stream_from_template(stream), stream.time_base
        assert unit is not None
        packets = [packet for packet in source.demux(stream) if packet.size]
        for number in range(round(minutes * 60 * FPS / group)):
            later = int(number * Fraction(group, FPS) / unit)
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.stream, again.time_base = copied, unit
                again.pts, again.dts = (packet.pts or 0) + later, (packet.dts or 0) + later
                again.duration, again.is_keyframe = packet.duration, packet.is_keyframe
                target.mux(again)
    return video


def _picture(number: int, height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    """A bar that moves over a gradient that moves."""
    ramp = (np.arange(width) + number) % 256
    picture = np.broadcast_to(ramp[None, :, None], (height, width, 3)).astype(np.uint8)
    left = number * 7 % width
    picture[height // 4 : height // 2, left : left + width // 20] = 220
    return picture

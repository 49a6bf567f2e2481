"""Public files that readers are known to misread, against a decode from their beginning.

They lie beside the project, in `shared/data/videos`, with a README that says what each is of.
"""

from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from transfer.video.frames import probe, read_clip
from transfer.video.index import index_of
from transfer.video.pyav_reader import PyAVReader

VIDEOS = next(
    (
        folder / "shared/data/videos"
        for folder in Path(__file__).resolve().parents
        if (folder / "shared/data/videos").is_dir()
    ),
    Path("shared/data/videos"),
)
#: File: number of frames, time of the last one, height and width as shown, who reads it.
TRUTH = {
    "av1-1-b8-03-sizedown.mp4": (20, 0.634, (720, 1280), "pyav"),
    "bikes_x265.mp4": (250, 9.96, (272, 640), "pyav"),
    "brokensps.mp4": (79, 6.036, (144, 192), "pyav"),
    "cockatoo.mp4": (280, 13.95, (720, 1280), "decord"),
    "cursed-vfr.mp4": (63, 7.156, (1386, 3026), "decord"),
    "frag_overlap.mp4": (96, 3.958, (360, 640), "pyav"),
    "h265_video.mp4": (10, 0.9, (128, 128), "pyav"),
    "hdr10tags-both.mkv": (10, 0.36, (560, 320), "pyav"),
    "interlaced_crop.mp4": (126, 5.0, (360, 640), "pyav"),
    "latin1.mp4": (50, 1.96, (272, 640), "decord"),
    "mov-2elist-elist1-ends-bframe.mp4": (42, 1.708, (480, 640), "pyav"),
    "mov-3elist.mp4": (48, 1.958, (480, 640), "pyav"),
    "mov-elist-starts-ctts-2ndsample.mp4": (48, 1.958, (480, 640), "pyav"),
    "nasa_13013.mp4": (390, 12.98, (270, 480), "pyav"),
    "roadtrip-vp92-10bit.webm": (72, 2.961, (240, 426), "pyav"),
    "sample_rotate_and_reflect.mp4": (30, 0.968, (1080, 720), "pyav"),
    "sample_sef_slow_motion.mp4": (63, 2.067, (240, 320), "pyav"),
    "test_iibbibb.mp4": (13, 12.0, (576, 704), "pyav"),
}
pytestmark = pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"there is no {VIDEOS}")


def decoded(path):
    """All frames from the beginning, of the stream that FFmpeg thinks best."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        stream.thread_count = 2
        yield from container.decode(stream)


def as_shown(frame, size):
    """Each pixel brought to where the display matrix puts it; of one size, where that changes."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return frame.to_ndarray(format="rgb24", height=size[0], width=size[1])
    pixels = frame.to_ndarray(format="rgb24")
    values = np.sign(np.frombuffer(matrix, "=i4").reshape(3, 3)[:2, :2])
    across_down = np.moveaxis(np.indices(pixels.shape[:2])[::-1], 0, 2) @ values
    across, down = np.moveaxis(across_down - across_down.min((0, 1)), 2, 0)
    shown = np.empty((down.max() + 1, across.max() + 1, 3), np.uint8)
    shown[down, across] = pixels
    return shown


@cache
def uniform(name):
    """Times of all frames, and the pixels of some of them."""
    total, _, size, _ = TRUTH[name]
    wanted = np.linspace(0, total - 1, min(total, 6), dtype=int).tolist()
    times, found = [], {}
    for i, frame in enumerate(decoded(VIDEOS / name)):
        times.append(frame.time)
        if i in wanted:
            found[i] = as_shown(frame, size)
    return [time - times[0] for time in times], found


@pytest.mark.parametrize("name", TRUTH)
def test_frames_times_sizes_and_pixels(name, capfd):
    total, last, size, reader = TRUTH[name]
    times, found = uniform(name)
    info = probe(VIDEOS / name)
    clip = read_clip(VIDEOS / name, len(found))
    assert (info.frames, info.height, info.width) == (total, *size)
    assert clip.indices == tuple(found)
    assert clip.seconds == pytest.approx([times[i] for i in found], abs=1e-3)
    assert len(times) == total and times[-1] == pytest.approx(last, abs=1e-3)
    assert clip.backend == reader
    for i, pixels in zip(clip.indices, clip.pixels):
        assert np.abs(pixels.astype(int) - found[i]).max() <= 1, i
    assert capfd.readouterr().err == ""


#: With several key frames to begin at.
JUMPED = (
    "bikes_x265.mp4",
    "cockatoo.mp4",
    "h265_video.mp4",
    "interlaced_crop.mp4",
    "nasa_13013.mp4",
    "roadtrip-vp92-10bit.webm",
    "test_iibbibb.mp4",
)


@pytest.mark.parametrize("name", JUMPED)
def test_pyav_finds_a_frame_wherever_it_begins(name):
    _, found = uniform(name)
    reader = PyAVReader(VIDEOS / name, index_of(VIDEOS / name))
    for i in list(found)[1::3]:
        [pixels] = reader.read([i])
        assert np.abs(pixels.astype(int) - found[i]).max() <= 1, i


def test_durations_say_how_long_the_last_frame_stays():
    assert probe(VIDEOS / "cursed-vfr.mp4").duration == pytest.approx(8.726, abs=1e-3)
    assert probe(VIDEOS / "sample_sef_slow_motion.mp4").duration == pytest.approx(2.1)
    assert probe(VIDEOS / "bikes_x265.mp4").duration == pytest.approx(10)


def test_a_stream_of_ones_own_choice():
    path = VIDEOS / "nasa_13013.mp4"
    info = probe(path, stream=0)
    assert (info.frames, info.height, info.width) == (325, 180, 320)
    assert probe(path, stream=3) == probe(path)
    assert read_clip(path, 2, stream=0).pixels.shape == (2, 180, 320, 3)


@pytest.mark.parametrize("name", ["av1-1-b8-03-sizedown.mp4", "brokensps.mp4"])
def test_changes_of_size_are_said_once(name):
    clip = read_clip(VIDEOS / name, 20)
    height, width = TRUTH[name][2]
    assert clip.notes == (
        f"video {VIDEOS / name} changes its picture's size;"
        f" all are scaled to the first, {width} x {height}",
    )

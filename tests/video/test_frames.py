"""Exactly the frames asked for, whoever reads them, or one sentence with every cause."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import tiny_video
from tiny_video import number, rotate, write_video

import transfer.video.frames as module
from transfer.errors import UserError
from transfer.video.decord_reader import DecordReader
from transfer.video.frames import probe, read_clip
from transfer.video.index import index_of
from transfer.video.pyav_reader import PyAVReader
from transfer.video.streams import check_whole

needs_decord = pytest.mark.skipif(find_spec("decord") is None, reason="decord is not installed")
FAST = {
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime", "g": "12"},
    "libsvtav1": {"preset": "12", "g": "12"},
}


@pytest.fixture(scope="module")
def h264(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "h264.mp4")


@pytest.fixture
def no_decord(monkeypatch):
    # As if it was not installed: importing it raises.
    monkeypatch.setitem(sys.modules, "decord", None)


def numbers(clip):
    return [number(frame) for frame in clip.pixels]


def check_both(path, expected):
    """decord and PyAV return the same frames, and they are the expected ones."""
    clips = []
    for reader in (DecordReader, PyAVReader):
        opened = reader(path, index_of(path))
        assert len(opened.seconds) == len(expected)
        clips.append((opened.read([0, len(expected) - 1, 7]), opened.seconds))
    (ours, times), (other, other_times) = clips
    assert np.array_equal(ours, other)
    assert times == other_times
    assert [number(frame) for frame in other] == [expected[0], expected[-1], expected[7]]


@needs_decord
def test_h264(h264):
    clip = read_clip(h264, 8)
    assert clip.backend == "decord"
    assert clip.indices == (0, 7, 14, 21, 28, 35, 42, 49) == tuple(numbers(clip))
    assert clip.seconds == (0.0, 0.28, 0.56, 0.84, 1.12, 1.4, 1.68, 1.96)
    assert clip.duration == pytest.approx(2)
    assert clip.pixels.shape == (8, 64, 128, 3)
    check_both(h264, range(50))


def test_without_decord_pyav_reads(h264, no_decord):
    clip = read_clip(h264, 8)
    assert clip.backend == "pyav"
    assert numbers(clip) == [0, 7, 14, 21, 28, 35, 42, 49]


@needs_decord
@pytest.mark.parametrize("rate", ["12", "250", "2", "1"])
def test_every_index_with_any_distance_of_key_frames(tmp_path, rate):
    path = write_video(tmp_path / "a.mp4", bf="3", g=rate)
    check_both(path, range(50))
    reader = PyAVReader(path, index_of(path))
    assert [number(f) for f in reader.read(range(50))] == list(range(50))
    # In any order, and more than once.
    assert [number(f) for f in reader.read([30, 3, 3, 49])] == [30, 3, 3, 49]


@needs_decord
def test_vp9(tmp_path):
    path = write_video(tmp_path / "a.webm", codec="libvpx-vp9", **FAST["libvpx-vp9"])
    assert read_clip(path, 3).backend == "decord"
    check_both(path, range(50))


@needs_decord
def test_av1_goes_to_pyav(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20, codec="libsvtav1", **FAST["libsvtav1"])
    with pytest.raises(Exception, match="not exact in av1"):
        DecordReader(path, index_of(path))
    clip = read_clip(path, 4)
    assert clip.backend == "pyav"
    assert numbers(clip) == [0, 6, 12, 19]


@needs_decord
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_honoured_the_same_in_both(h264, tmp_path, degrees):
    path = tmp_path / "turned.mp4"
    path.write_bytes(h264.read_bytes())
    rotate(path, degrees)
    flat = read_clip(h264, 3).pixels
    # Clockwise, as a player shows it.
    expected = np.rot90(flat, -degrees // 90, (1, 2))
    for reader in (DecordReader, PyAVReader):
        assert np.array_equal(reader(path, index_of(path)).read([0, 24, 49]), expected)
    info = probe(path)
    assert (info.height, info.width) == expected.shape[1:3]


@needs_decord
def test_variable_frame_rate(tmp_path):
    times = [i * 40 + i // 10 * 700 for i in range(50)]
    path = write_video(tmp_path / "a.mp4", times=times)
    check_both(path, range(50))
    clip = read_clip(path, 50)
    assert clip.seconds == pytest.approx([time / 1000 for time in times], abs=1e-3)
    assert clip.duration == pytest.approx(4.8)
    assert probe(path).fps == pytest.approx(50 / 4.8)
    # One a second: what is on display then, by time and not by number.
    assert read_clip(path, None, "fps", fps=1).indices == (0, 9, 19, 29, 39)


@needs_decord
@pytest.mark.parametrize("seconds", [0.6, 0.5, 1.0])
def test_cut_with_an_edit_list_shows_only_what_is_shown(h264, tmp_path, seconds):
    path = tiny_video.cut_beginning(h264, tmp_path / "cut.mp4", seconds)
    first = -(-seconds * 1000 // 40)
    with pytest.raises(ValueError, match="edit list"):
        DecordReader(path, index_of(path))
    clip = read_clip(path, 5)
    assert clip.backend == "pyav"
    assert clip.indices[-1] == probe(path).frames - 1 == 49 - first
    assert numbers(clip) == [first + i for i in clip.indices]
    assert clip.seconds[0] == 0


@needs_decord
def test_cut_at_its_end_with_an_edit_list(h264, tmp_path):
    path = tmp_path / "cut.mp4"
    path.write_bytes(h264.read_bytes())
    tiny_video.cut_end(path, 0.5)
    with pytest.raises(ValueError, match="edit list"):
        DecordReader(path, index_of(path))
    clip = read_clip(path, 26)
    assert numbers(clip) == list(range(25))
    assert clip.notes == (
        f"video {path} has 25 frames, fewer than the 26 asked for; all are taken",
    )


@needs_decord
@pytest.mark.parametrize("suffix", ["ts", "avi", "h264"])
def test_containers_without_an_exact_index_are_decoded_from_the_beginning(tmp_path, suffix):
    clip = read_clip(write_video(tmp_path / f"a.{suffix}", 30), 5)
    assert clip.backend == "pyav"
    assert clip.indices == (0, 7, 14, 21, 29) == tuple(numbers(clip))
    assert clip.seconds[-1] == pytest.approx(1.16, abs=0.05)


@needs_decord
def test_a_fragmented_file(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "12", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(tiny_video.picture(i), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    check_both(path, range(40))


def test_time_bounds(h264):
    clip = read_clip(h264, 3, start=0.4, end=0.8)
    assert numbers(clip) == [10, 15, 20] == list(clip.indices)
    assert read_clip(h264, 2, "midpoint", start=1.0).indices == (31, 43)
    assert read_clip(h264, None, "fps", fps=5, end=0.4).indices == (0, 5, 10)
    few = read_clip(h264, 12, start=0.4, end=0.8)
    assert numbers(few) == list(range(10, 21))
    assert "has 11 frames between its bounds, fewer than the 12 asked for" in few.notes[0]
    with pytest.raises(UserError, match=r"no frame between 7\.0 and inf s, it lasts 2\.0 s"):
        read_clip(h264, 1, start=7.0)


@pytest.mark.parametrize("sampling", ["uniform", "midpoint", "segment"])
def test_more_frames_than_the_video_has(h264, sampling):
    clip = read_clip(h264, 50, sampling)
    assert numbers(clip) == list(range(50))
    assert not clip.notes
    clip = read_clip(h264, 51, sampling)
    assert numbers(clip) == list(range(50))
    assert clip.notes == (
        f"video {h264} has 50 frames, fewer than the 51 asked for; all are taken",
    )


@needs_decord
@pytest.mark.parametrize("name", ["12:30:05.mp4", "http:x.mp4"])
def test_a_name_with_a_colon_is_no_address(h264, tmp_path, monkeypatch, name):
    shutil.copy(h264, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    check_both(Path(name), range(50))
    assert numbers(read_clip(Path(name), 2)) == [0, 49]


def test_probe(h264):
    info = probe(h264)
    assert (info.frames, info.height, info.width) == (50, 64, 128)
    assert info.fps == pytest.approx(25)
    assert info.duration == pytest.approx(2)


def test_a_single_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", 1)
    assert numbers(read_clip(path, 1)) == [0]
    assert read_clip(path, None, "fps", fps=2).indices == (0,)
    assert probe(path).frames == 1


def half(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def noisy(path: Path, **options) -> Path:
    """With its index at the beginning, so that half a file looks like a whole one."""
    source = np.random.default_rng(0)
    frames = [source.integers(0, 255, (64, 128, 3), dtype=np.uint8) for _ in range(60)]
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "12", "crf": "30"})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def silence(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        samples = np.zeros((1, 1024), np.float32)
        for i in range(10):
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, i * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


BROKEN = {
    "empty": (lambda d: written(d / "v.mp4", b""), "Invalid data"),
    "garbage": (
        lambda d: written(d / "v.mp4", np.random.default_rng(0).bytes(5000)),
        "Invalid data",
    ),
    "truncated": (lambda d: half(noisy(d / "v.mp4", movflags="faststart")), "broken after"),
    "truncated mkv": (lambda d: half(noisy(d / "v.mkv")), "cut off after"),
    "without its index": (lambda d: half(noisy(d / "v.mp4")), "Invalid data"),
    "audio only": (lambda d: silence(d / "v.mp4"), "no video stream"),
    "no frames": (lambda d: write_video(d / "v.mp4", 0), "no video stream"),
    "no frames mkv": (lambda d: write_video(d / "v.mkv", 0), "End of file"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_name_the_file_and_the_cause(tmp_path, kind, capfd):
    make, cause = BROKEN[kind]
    path = make(tmp_path)
    for attempt in (lambda: read_clip(path, 4), lambda: probe(path)):
        with pytest.raises(UserError) as error:
            attempt()
        said = str(error.value)
        assert said.startswith(f"video {path} cannot be read (")
        assert cause in said
        assert "\n" not in said
        assert "/src/" not in said
    assert capfd.readouterr().err == ""


def test_where_pyav_shows_no_index_the_header_tells_how_many_frames_there_are(h264):
    """As before PyAV 16."""
    check_whole(h264, SimpleNamespace(frames=12), 12)
    check_whole(h264, SimpleNamespace(frames=0), 12)
    with pytest.raises(ValueError, match="cut off after 11 of 12 frames"):
        check_whole(h264, SimpleNamespace(frames=12), 11)
    with pytest.raises(ValueError, match="cut off after 12 of 13 frames"):
        check_whole(h264, SimpleNamespace(frames=0, index_entries=range(13)), 12)


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_damage_in_the_middle_does_not_shift_frames(tmp_path, monkeypatch, backend, capfd):
    path = tmp_path / "v.mp4"
    write_video(path, 60, movflags="faststart")
    content = bytearray(path.read_bytes())
    middle = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
    content[middle : middle + 60] = np.random.default_rng(0).bytes(60)
    path.write_bytes(content)
    if backend == "pyav":
        monkeypatch.setitem(sys.modules, "decord", None)
    clip = read_clip(path, 8)
    assert clip.indices == (0, 8, 16, 25, 33, 42, 50, 59)
    found = numbers(clip)
    # What is far from the damage is as it was.
    assert found[:3] == [0, 8, 16]
    assert found[-1] == 59
    assert len(clip.pixels) == 8


def test_without_decord_its_absence_is_one_of_the_causes(h264, no_decord, monkeypatch):
    def fail(*_):
        raise ValueError("no such frame")

    monkeypatch.setattr(PyAVReader, "read", fail)
    with pytest.raises(UserError, match=r"\(decord: .*decord.*; pyav: no such frame\)"):
        read_clip(h264, 4)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"^video .*v\.mp4 does not exist; check the path$"):
        read_clip(tmp_path / "v.mp4", 4)


@pytest.mark.parametrize("reader", ["DecordReader", "PyAVReader"])
def test_a_reader_that_returns_too_few_frames_is_not_believed(h264, monkeypatch, reader):
    original = getattr(module, reader)

    class Short(original):
        def read(self, indices):
            return super().read(indices)[1:]

    monkeypatch.setattr(module, reader, Short)
    if reader == "DecordReader" and find_spec("decord"):
        assert read_clip(h264, 4).backend == "pyav"
    elif reader == "PyAVReader":
        monkeypatch.setitem(sys.modules, "decord", None)
        with pytest.raises(UserError, match="pyav: 3 of 4 frames came out"):
            read_clip(h264, 4)


def test_nothing_is_imported_before_a_video_is_read():
    code = (
        "import sys, transfer.video.frames, transfer.adapters.video_model\n"
        "assert not {'decord', 'av', 'torchvision'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr

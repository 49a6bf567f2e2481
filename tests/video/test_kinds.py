"""Kinds of files that readers are known to misread, made here, against a decode from the start."""

import os
import struct
from fractions import Fraction
from importlib.util import find_spec
from types import SimpleNamespace

import av
import numpy as np
import pytest
import tiny_video
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import UserError
from transfer.video.decord_reader import DecordReader
from transfer.video.frames import probe, read_clip
from transfer.video.index import index_of
from transfer.video.picture import turn, upright
from transfer.video.pyav_reader import PyAVReader

FRAMES = 40
needs_decord = pytest.mark.skipif(find_spec("decord") is None, reason="decord is not installed")


def moving(i, height=64, width=128):
    """A frame that differs everywhere from those before, by little."""
    grain = np.random.default_rng(0).integers(-15, 15, (height, width, 1))
    picture = tiny_video.picture(i, height, width) + np.roll(grain, 2 * i, 1)
    return picture.clip(0, 255).astype(np.uint8)


def encode(path, codec="libx264", pixels="yuv420p", frames=FRAMES, size=(64, 128), **options):
    if codec == "libx264":
        options = {"g": "12", "bf": "2", **options}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        (stream.height, stream.width), stream.pix_fmt = size, pixels
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(moving(i, *size), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def packets(path):
    """What is in a file: contents, and times in seconds."""
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.dts is not None:
                at = (packet.pts * packet.time_base, packet.dts * packet.time_base)
                yield bytes(packet), *at, packet.is_keyframe


def remux(source, path, chosen):
    """A file of such packets as `packets` gives, under the head of another."""
    with av.open(str(source)) as before, av.open(str(path), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        unit = Fraction(1, 1000)
        for content, shown, decoded, key in chosen:
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, unit, key
            packet.pts, packet.dts = round(shown / unit), round(decoded / unit)
            after.mux(packet)
    return path


def decoded(path, number=0):
    with av.open(str(path), metadata_errors="replace") as container:
        frames = list(container.decode(container.streams[number]))
    return [frame.time - frames[0].time for frame in frames], frames


def check(path, misread, reader="pyav"):
    """All frames, some and each alone are those of a decode from the beginning."""
    times, frames = decoded(path)
    truth = [frame.to_ndarray(format="rgb24") for frame in frames]
    index = index_of(path)
    assert misread in index.misread
    assert bool(misread) == bool(index.misread)
    clip = read_clip(path, len(truth))
    assert clip.backend == (reader if find_spec("decord") else "pyav")
    assert clip.indices == tuple(range(len(truth))) and not clip.notes
    assert clip.seconds == pytest.approx(times, abs=1e-3)
    assert np.abs(clip.pixels.astype(int) - truth).max() <= 1
    some = read_clip(path, 7)
    assert np.array_equal(some.pixels, clip.pixels[list(some.indices)])
    alone = PyAVReader(path, index)
    for i in range(len(truth) - 1, 0, -7):
        assert np.abs(alone.read([i])[0].astype(int) - truth[i]).max() <= 1, i
    return clip


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_open_groups_of_pictures(tmp_path, suffix):
    path = encode(tmp_path / f"a.{suffix}", **{"x264-params": "open-gop=1:scenecut=0"})
    check(path, "a key frame")
    path = encode(tmp_path / f"b.{suffix}", "mpeg2video", g="12", bf="2", sc_threshold="100")
    check(path, "where frames refer to those before a key frame")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pictures_that_recover_little_by_little(tmp_path, suffix):
    path = encode(tmp_path / f"a.{suffix}", **{"x264-params": "intra-refresh=1:scenecut=0"})
    check(path, "where a key frame may need what came before")
    # Marked as key frames, all but the first cannot be begun at.
    assert len(index_of(path).keys) == 1


def test_every_frame_marked_as_a_key_frame(tmp_path):
    path = encode(tmp_path / "a.mp4")
    content = path.read_bytes()
    assert content.count(b"stss") == 1
    # MP4 without the list of key frames says that all are; decord believes it.
    path.write_bytes(content.replace(b"stss", b"free"))
    check(path, "", "pyav")
    assert len(index_of(path).keys) < FRAMES / 5


@pytest.mark.parametrize("first", [3, 11, 12, 13])
def test_a_stream_that_begins_in_the_middle(tmp_path, first):
    whole = encode(tmp_path / "a.mp4", **{"x264-params": "open-gop=1:scenecut=0"})
    path = remux(whole, tmp_path / "b.mkv", list(packets(whole))[first:])
    check(path, "before a key frame")


def test_hevc_that_begins_with_an_open_group(tmp_path):
    settings = {"x265-params": "log-level=none:keyint=10:min-keyint=10:bframes=3:scenecut=0"}
    whole = encode(tmp_path / "a.mp4", "libx265", **settings)
    check(whole, "where frames refer to those before a key frame")
    found = list(packets(whole))
    second = [i for i, (*_, key) in enumerate(found) if key][1]
    path = remux(whole, tmp_path / "b.mkv", found[second:])
    # The frames that are shown before the key frame and behind it in the file cannot be decoded.
    assert len(index_of(path).times) < len(found) - second
    check(path, "before a key frame")


def test_frames_that_are_never_shown_in_packets_of_their_own(tmp_path):
    whole = encode(tmp_path / "a.webm", "libvpx", deadline="realtime", g="12")
    check(whole, "", "decord")
    found = []
    for i, (content, *times, key) in enumerate(packets(whole)):
        # The bit of VP8 that says whether the frame is shown.
        hidden = i % 5 == 3
        found.append((bytes([content[0] & (0xEF if hidden else 0xFF)]) + content[1:], *times, key))
    path = remux(whole, tmp_path / "b.webm", found)
    clip = check(path, "in a file with frames that are never shown")
    assert len(clip.indices) == FRAMES * 4 // 5


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx", "webm"), ("libvpx-vp9", "mkv")])
def test_pictures_that_change_their_size(tmp_path, codec, suffix):
    fast = {"deadline": "realtime", "g": "12", "cpu-used": "8", "frames": 15}
    large = encode(tmp_path / f"a.{suffix}", codec, **fast)
    small = encode(tmp_path / f"b.{suffix}", codec, size=(32, 64), **fast)
    found = list(packets(large))
    found += [
        (data, *(at + Fraction(3, 5) for at in times), key) for data, *times, key in packets(small)
    ]
    path = remux(large, tmp_path / f"c.{suffix}", found)
    said = f"video {path} changes its picture's size; all are scaled to the first, 128 x 64"
    clip = read_clip(path, 30)
    assert clip.backend == "pyav" and clip.notes == (said,)
    _, frames = decoded(path)
    assert {frame.width for frame in frames} == {128, 64}
    truth = [frame.to_ndarray(format="rgb24", height=64, width=128) for frame in frames]
    assert np.array_equal(clip.pixels, truth)
    assert [tiny_video.number(frame) for frame in clip.pixels] == [*range(15), *range(15)]
    # Only where another size was among those asked for.
    assert not read_clip(path, 3, end=0.4).notes
    assert probe(path).width == 128


@pytest.mark.parametrize(
    ("pixels", "settings", "misread"),
    [
        ("yuv420p", {"flags": "+ilme+ildct", "x264-params": "tff=1"}, "in interlaced pictures"),
        ("yuv420p10le", {}, "in pictures of yuv420p10le"),
        ("yuv444p10le", {}, "in pictures of yuv444p10le"),
        ("yuv444p", {}, ""),
        ("yuv422p", {}, ""),
        ("yuvj420p", {}, ""),
    ],
)
def test_kinds_of_pixels(tmp_path, pixels, settings, misread):
    path = encode(tmp_path / "a.mp4", pixels=pixels, **settings)
    check(path, misread, "pyav" if misread else "decord")


def displayed(path, matrix):
    """Write a display matrix into an mp4 file."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    values = [value << 16 for value in matrix]
    content[place : place + 36] = struct.pack(">9i", *values[:2], 0, *values[2:], 0, 0, 0, 1 << 30)
    path.write_bytes(content)


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize(
    ("matrix", "expected", "misread"),
    [
        ((-1, 0, 0, 1), lambda frame: frame[:, ::-1], True),
        ((1, 0, 0, -1), lambda frame: frame[::-1], True),
        ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2), True),
        ((0, -1, -1, 0), lambda frame: frame.transpose(1, 0, 2)[::-1, ::-1], True),
        ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1), False),
        ((-1, 0, 0, -1), lambda frame: frame[::-1, ::-1], False),
        ((0, -1, 1, 0), lambda frame: np.rot90(frame), False),
    ],
)
def test_turned_and_mirrored(tmp_path, side, matrix, expected, misread):
    path = encode(tmp_path / "a.mp4", frames=3, size=(side, 128))
    flat = read_clip(path, 3).pixels
    displayed(path, matrix)
    shown = np.stack([expected(frame) for frame in flat])
    clip = read_clip(path, 3)
    assert np.array_equal(clip.pixels, shown)
    assert (index_of(path).misread == "in mirrored pictures") == misread
    assert (probe(path).height, probe(path).width) == shown.shape[1:3]
    if not misread and find_spec("decord"):
        assert np.array_equal(DecordReader(path, index_of(path)).read([0, 1, 2]), shown)


@given(
    st.sampled_from([(1, 0, 0, 1), (0, 1, 1, 0)]),
    st.tuples(st.sampled_from([-1, 1]), st.sampled_from([-1, 1])),
    st.integers(1, 4).map(lambda half: 2 * half),
    st.integers(1, 4).map(lambda half: 2 * half),
)
def test_each_pixel_goes_where_the_matrix_sends_it(axes, signs, height, width):
    a, b, c, d = (value * sign for value, sign in zip(axes, (*signs, *signs)))
    if axes[0]:
        a, d = signs
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 14], np.int32) << 16
    flat = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    frame = SimpleNamespace(
        side_data={"DISPLAYMATRIX": matrix.tobytes()},
        height=height,
        width=width,
        to_ndarray=lambda **_: flat,
    )
    shown = upright(frame)
    places = [(a * x + c * y, b * x + d * y) for y in range(height) for x in range(width)]
    left, top = (min(axis) for axis in zip(*places))
    for (x, y), pixel in zip(places, flat.reshape(-1, 3)):
        assert np.array_equal(shown[y - top, x - left], pixel)
    assert turn(SimpleNamespace(side_data={})) == (False, False, False)


def two_streams(path, default=None):
    """A small and a large one of the same times, a cover picture before them."""
    with av.open(str(path), "w") as container:
        streams = []
        for height, width in ((32, 64), (64, 128)):
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            streams.append(stream)
        if default is not None:
            for i, stream in enumerate(streams):
                stream.disposition = av.stream.Disposition.default if i == default else 0
        for i in range(10):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(
                    moving(i, stream.height, stream.width), format="rgb24"
                )
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("default", "width"), [(None, 128), (0, 64), (1, 128)])
def test_one_choice_of_several_streams(tmp_path, default, width):
    path = two_streams(tmp_path / "a.mkv", default)
    clip = read_clip(path, 4)
    assert clip.pixels.shape[2] == probe(path).width == width
    assert clip.backend == "pyav"
    for number, (height, width) in enumerate([(32, 64), (64, 128)]):
        chosen = read_clip(path, 10, stream=number)
        assert chosen.pixels.shape[1:3] == (height, width)
        truth = [frame.to_ndarray(format="rgb24") for frame in decoded(path, number)[1]]
        assert np.array_equal(chosen.pixels, truth)
    with pytest.raises(UserError) as error:
        probe(path, stream=2)
    assert str(error.value) == (
        f"video {path} has no video stream 2; it has 0 (64 x 32), 1 (128 x 64)"
    )


def test_titles_need_not_be_utf8(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Kakadu XXXX"
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 128, "yuv420p"
        for i in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moving(i), format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert content.count(b"XXXX") == 1
    path.write_bytes(content.replace(b"XXXX", "é\u00ff".encode("latin-1") + b"\xc3\x28"))
    check(path, "", "decord")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_last_frame_that_stays_is_no_file_cut_off(tmp_path, suffix):
    path, stays = encode(tmp_path / "a.mp4", frames=6, bf="0"), tmp_path / f"b.{suffix}"
    with av.open(str(path)) as before, av.open(str(stays), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                if packet.pts * packet.time_base == Fraction(5, 25):
                    packet.duration = int(30 / packet.time_base)
                after.mux(packet)
    assert probe(stays).frames == 6
    assert probe(stays).duration == pytest.approx(30.2, abs=0.05)


def test_a_file_that_changes_is_looked_at_again(tmp_path):
    path = encode(tmp_path / "a.mp4", frames=9)
    assert probe(path).frames == 9
    assert index_of(path) is index_of(path)
    encode(path, frames=7)
    assert probe(path).frames == 7


@needs_decord
def test_decord_that_finds_other_frames_is_not_used(tmp_path, monkeypatch):
    import decord

    path = encode(tmp_path / "a.mp4", frames=9)
    assert read_clip(path, 3).backend == "decord"
    original = decord.VideoReader.get_frame_timestamp

    def late(self, indices):
        # One tick of a frame's 512: less than 32 bits tell apart in a long video, not in this.
        return original(self, indices) + np.float32(1 / 12800) * (np.arange(9) == 4)[:, None]

    monkeypatch.setattr(decord.VideoReader, "get_frame_timestamp", late)
    clip = read_clip(path, 3)
    assert clip.backend == "pyav"
    with pytest.raises(ValueError, match="it finds other frames than the packets hold"):
        DecordReader(path, index_of(path))


@needs_decord
def test_what_decord_prints_stays_off_the_screen_and_nothing_else(tmp_path, monkeypatch, capfd):
    import decord

    path = encode(tmp_path / "a.mp4", frames=9)
    original = decord.VideoReader.get_batch

    def loud(self, indices):
        os.write(2, b"[21:09:33] /github/workspace/src/video/video_reader.cc:83: ERROR\nmine\n")
        return original(self, indices)

    monkeypatch.setattr(decord.VideoReader, "get_batch", loud)
    assert read_clip(path, 3).backend == "decord"
    assert capfd.readouterr().err == "mine\n"
    monkeypatch.setattr(decord.VideoReader, "get_batch", lambda *_: 1 / 0)
    assert read_clip(path, 3).backend == "pyav"
    os.write(2, b"there again\n")
    assert capfd.readouterr().err == "there again\n"


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 256, 256, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 128, "yuv420p"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(moving(0, 256, 256), format="rgb24")))
        for i in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moving(i), format="rgb24")))
        container.mux(stream.encode())
    info = probe(path)
    assert (info.frames, info.height, info.width) == (5, 64, 128)

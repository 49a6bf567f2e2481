import av
import numpy as np
import pytest
from tiny_video import number, picture

from transfer.errors import UserError
from transfer.video.folder_reader import natural
from transfer.video.frames import probe, read_clip


def save(path, pixels, codec="png", pixel_format="rgb24"):
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream(codec)
        stream.height, stream.width, stream.pix_fmt = (*pixels.shape[:2], pixel_format)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        save(tmp_path / f"frame_{i}.png", picture(i))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._frame_0.png").write_text("what a Mac leaves behind")
    return tmp_path


def test_pictures_are_read_in_the_natural_order_of_their_names(folder):
    clip = read_clip(folder, 12)
    assert [number(frame) for frame in clip.pixels] == list(range(12))
    assert np.array_equal(clip.pixels[11], picture(11))
    assert clip.backend == "folder"


def test_order_of_names(tmp_path):
    names = ["a10b2.png", "a9b10.png", "a9b9.png", "a.png", "1.png", "02.png"]
    found = sorted((tmp_path / name for name in names), key=natural)
    assert [p.name for p in found] == [
        "a.png", "a9b9.png", "a9b10.png", "a10b2.png", "1.png", "02.png"
    ]  # fmt: skip


def test_sampling_and_time(folder):
    assert read_clip(folder, 3, "midpoint").indices == (2, 6, 10)
    clip = read_clip(folder, 2, start=1.0, end=2.0, folder_fps=3)
    assert clip.indices == (3, 6)
    assert clip.seconds == (1.0, 2.0)
    assert clip.duration == pytest.approx(4, abs=0.01)
    info = probe(folder, folder_fps=3)
    assert (info.frames, info.height, info.width) == (12, 64, 128)
    assert info.fps == pytest.approx(3, abs=0.01)
    assert probe(folder).duration == 12


def test_jpeg_and_names_that_look_like_patterns(tmp_path):
    save(tmp_path / "100%d.jpg", picture(5), "mjpeg", "yuvj444p")
    clip = read_clip(tmp_path, 1)
    assert number(clip.pixels[0]) == 5
    assert np.abs(clip.pixels[0].astype(int) - picture(5)).mean() < 6


def test_too_few_pictures(folder):
    clip = read_clip(folder, 13)
    assert clip.indices == tuple(range(12))
    [note] = clip.notes
    assert note.endswith("has 12 frames, fewer than the 13 asked for; all are taken")


def test_a_folder_has_no_streams(folder):
    with pytest.raises(UserError, match="has no streams; leave stream 0 out"):
        read_clip(folder, 2, stream=0)


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="has no picture"):
        read_clip(tmp_path, 1)


def test_a_broken_picture_is_named(folder):
    (folder / "frame_3.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"picture .*frame_3\.png cannot be read"):
        read_clip(folder, 12)
    assert read_clip(folder, 2).indices == (0, 11)


def test_pictures_of_two_sizes_are_refused(folder):
    save(folder / "frame_11.png", picture(11, 32, 64))
    with pytest.raises(UserError, match=r"frame_11\.png differs .*64 x 32 and 128 x 64"):
        read_clip(folder, 2)


def test_a_rate_that_is_no_rate(folder):
    with pytest.raises(UserError, match="folder_fps is 0; it must be positive"):
        read_clip(folder, 2, folder_fps=0)

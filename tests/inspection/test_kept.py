"""`transfer inspect` with a tiny random LLaVA; its picture is read back."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_video
from PIL import Image

from transfer import NAMM, NAMMConfig
from transfer.adapters.video_model import load_video_model
from transfer.attachment.memory import attach
from transfer.cli import main
from transfer.errors import UserError
from transfer.inspection.config import InspectConfig
from transfer.inspection.kept import keep_video, kept_patches, seen
from transfer.inspection.pictures import EVICTED, REMAINS, Layout
from transfer.tasks.video_records import VIDEO, Prompt
from transfer.video.frames import read_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("inspect")
    tiny_video.save_llava(path / "model")
    NAMM(NAMMConfig()).save_pretrained(path / "namm")
    tiny_video.write_video(path / "clip.mp4", 10)
    return path


@pytest.fixture
def config(folder, tmp_path):
    return InspectConfig(
        video=folder / "clip.mp4",
        model=str(folder / "model"),
        policy="recency",
        budget=40,
        frames=8,
        out=tmp_path / "new" / "kept.png",
    )


def read_back(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def bright_patches(picture: np.ndarray, layout: Layout) -> np.ndarray:
    """Of each head, frame and patch, whether it looks like its frame, and not like an evicted."""
    cell = layout.tile[0] // layout.grid[0]
    bright = np.zeros((layout.heads, layout.frames, *layout.grid), dtype=bool)
    for (head, frame, row, column), _ in np.ndenumerate(bright):
        left = layout.left(frame) + column * cell
        place = np.s_[row * cell : (row + 1) * cell, left : left + cell]
        original = picture[layout.top(0) :][place].astype(float)
        found = picture[layout.top(head + 1) :][place].astype(float)
        dark = REMAINS * original + (1 - REMAINS) * EVICTED
        assert min(np.abs(found - original).max(), np.abs(found - dark).max()) <= 0.5
        bright[head, frame, row, column] = np.abs(found - original).max() <= 0.5
    return bright


def test_the_picture_shows_the_patches_that_recency_keeps(config):
    said = keep_video(config)
    picture = read_back(config.out)
    bright = bright_patches(picture, Layout(heads=6, frames=8, grid=(4, 4))).reshape(6, 128)
    # "<s> USER:" stand before the video: two of the four sinks are its first tokens. The eviction
    # after 128 tokens keeps the newest 36, then the rest comes.
    expected = np.zeros(128, dtype=bool)
    expected[:2] = expected[126 - 36 :] = True
    assert (bright == expected).all()
    assert "recency keeps 40.0 of 128 video tokens and 3.0 of 3 others" in said
    assert said.splitlines()[1].endswith(": 2.0 0.0 0.0 0.0 0.0 6.0 16.0 16.0")


def test_words_that_the_model_does_not_know_are_said(config, capsys):
    keep_video(replace(config, question="what jumps ?"))
    said = capsys.readouterr().err
    assert "the model does not know 'jumps', and answers as if that were not there\n" in said
    keep_video(replace(config, question="what color is the square ?"))
    assert "does not know" not in capsys.readouterr().err


def test_what_a_namm_keeps_is_drawn_as_its_cache_says(config, folder):
    config = replace(config, policy="namm", namm=str(folder / "namm"), budget=0.25)
    question = "what color is the square ?"
    said = keep_video(replace(config, question=question))
    model = load_video_model(folder / "model")
    clip = read_clip(config.video, 8)
    ids = model.prompt_ids(Prompt((VIDEO, f"\n{question}"), ("yes", "no")), 8)
    namm = NAMM.from_pretrained(folder / "namm")
    with attach(model.model, namm, update_interval=64, budget=0.25) as memory:
        cache = memory.new_cache()
        logits = model.prefill(ids, model.encode(clip), cache)
        kept = kept_patches(cache, model.is_video(ids)[0], (8, 4, 4))
        reply = model.generate(logits, cache, 32)
    assert said.splitlines()[2] == f"reply: {reply}"
    picture = read_back(config.out)
    bright = bright_patches(picture, Layout(heads=6, frames=8, grid=(4, 4)))
    assert (bright == kept.reshape(6, 8, 4, 4)).all()
    assert 0 < kept.mean() < 1


def test_kept_patches_are_the_positions_of_the_cache(config, folder):
    model = load_video_model(folder / "model")
    ids = model.prompt_ids(Prompt((VIDEO,), ("yes", "no")), 8)
    first = int(model.is_video(ids)[0].float().argmax())
    with attach(model.model, "random", update_interval=64, budget=20) as memory:
        cache = memory.new_cache()
        model.prefill(ids, model.encode(read_clip(config.video, 8)), cache)
        kept = kept_patches(cache, model.is_video(ids)[0], (8, 4, 4))
    for layer, heads in enumerate(kept):
        for head, found in enumerate(heads):
            frame, row, column = np.nonzero(found)
            positions = set((first + frame * 16 + row * 4 + column).tolist())
            held = set(cache.pruned[layer].positions()[head].tolist())
            assert positions == {at for at in held if first <= at < first + 128}


def test_frames_are_drawn_as_the_vision_tower_sees_them(config, folder):
    clip = read_clip(config.video, 3)
    pixels = seen(load_video_model(folder / "model").preprocessing, clip.pixels)
    assert pixels.shape == (3, 32, 32, 3)
    # The middle half of the width, at half the size.
    middle = clip.pixels[:, ::2, 32:96:2].astype(float)
    assert np.abs(pixels - middle).mean() < 12


def test_short_videos_are_drawn_whole(config, capsys):
    said = keep_video(replace(config, frames=None))
    [means] = [line for line in said.splitlines() if line.startswith("mean kept")]
    assert len(means.split(": ")[1].split()) == 10
    assert read_back(config.out).shape[1] == Layout(6, 10, (4, 4)).size[0]
    assert capsys.readouterr().err.splitlines() == [
        f"video {config.video} has 10 frames, fewer than the 32 asked for; all are taken"
    ]


def test_the_full_cache_is_all_bright(config):
    said = keep_video(replace(config, policy="full"))
    assert "full keeps 128.0 of 128 video tokens" in said
    picture = read_back(config.out)
    assert bright_patches(picture, Layout(heads=6, frames=8, grid=(4, 4))).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frames": 0}, "frames is 0"),
        ({"stream": 1}, r"has no video stream 1; it has 0 \(128 x 64\)"),
        ({"stream": -1}, "stream is -1"),
        ({"policy": "h20"}, "unknown policy 'h20'"),
        ({"question": "what \udcff ?"}, r"holds '\\udcff', which is no character"),
        ({"question": "before " * 500}, "5 frames fit|0 frames fit"),
    ],
)
def test_bad_input_is_one_sentence_and_no_picture(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        keep_video(replace(config, **changes))
    assert not config.out.exists()


def test_a_picture_is_of_one_policy(config):
    with pytest.raises(UserError, match="policy is all and a picture shows one; name one policy"):
        replace(config, policy="all")


def test_a_language_model_is_refused_in_one_sentence(config, capsys, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("asked the network"))
    words = ["inspect", "--video", str(config.video), "--policy", "tova", "--model"]
    assert main([*words, "llama-recall"]) == 2
    assert "llama-recall is a language model (llama), not a video model" in capsys.readouterr().err
    assert main([*words, "llama-recal"]) == 2
    assert "unknown model 'llama-recal'; did you mean llama-recall" in capsys.readouterr().err


def test_the_command_draws_and_prints(config, folder, capsys):
    words = ["inspect", "--model", config.model, "--video", str(config.video)]
    words += ["--policy", "tova", "--budget", "0.5", "--frames", "6", "--out", str(config.out)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{config.out}: tova keeps ")
    assert read_back(config.out).shape[1::-1] == Layout(6, 6, (4, 4)).size
    assert main([*words[:-1], "kept.jpg"]) == 2
    assert "no .png file" in capsys.readouterr().err
    assert main([*words[:4], str(folder / "gone.mp4")]) == 2
    assert "gone.mp4 does not exist" in capsys.readouterr().err

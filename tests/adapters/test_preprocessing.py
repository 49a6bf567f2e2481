"""Frames become what the official processor makes of them, without torchvision."""

import json

import numpy as np
import pytest
import tiny_video
import torch

from transfer.adapters.preprocessing import (
    Preprocessing,
    load_chat_template,
    load_patch_size,
    load_preprocessing,
)
from transfer.errors import UserError

PLAIN = {
    "do_resize": False,
    "do_center_crop": False,
    "image_mean": [0.5, 0.25, 0.0],
    "image_std": [0.5, 0.5, 2.0],
}
SIZES = [(360, 640), (640, 360), (720, 1280), (337, 1001), (33, 35), (32, 32), (100, 57), (20, 24)]


def frames(height, width, count=2):
    source = np.random.default_rng(height * width)
    return source.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_colours_are_scaled_and_normalised():
    pixels = np.array([[[[0, 255, 51]]]], np.uint8)
    made = Preprocessing.of(PLAIN)(pixels)
    assert made.shape == (1, 1, 3, 1, 1)
    assert made.flatten().tolist() == pytest.approx([-1.0, 1.5, 0.1])
    raw = Preprocessing.of({**PLAIN, "do_rescale": False, "do_normalize": False})(pixels)
    assert raw.flatten().tolist() == [0.0, 255.0, 51.0]


def test_the_centre_is_cut_out():
    settings = {**PLAIN, "do_center_crop": True, "crop_size": {"height": 2, "width": 4}}
    pixels = frames(5, 8)
    whole, made = Preprocessing.of(PLAIN)(pixels), Preprocessing.of(settings)(pixels)
    assert torch.equal(made, whole[..., 1:3, 2:6])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_shortest_edge_decides(height, width):
    settings = {**PLAIN, "do_resize": True, "size": {"shortest_edge": 32}}
    made = Preprocessing.of(settings)(frames(height, width))
    long = int(32 * max(height, width) / min(height, width))
    assert made.shape[-2:] == ((32, long) if height <= width else (long, 32))


def test_a_ramp_stays_a_ramp():
    ramp = np.broadcast_to(
        np.arange(0, 256, 2, dtype=np.uint8)[None, None, :, None], (1, 64, 128, 3)
    )
    made = Preprocessing.of({**tiny_video.PICTURES, "do_normalize": False})(ramp)
    # 128 pixels wide are halved, and 16 are cut off on both sides.
    expected = (np.arange(16, 48) * 4 + 1) / 255
    assert np.abs(made[0, 0, 0, 5].numpy() - expected).max() < 1.5 / 255


def test_sizes_in_other_words():
    of = Preprocessing.of
    assert of({**PLAIN, "do_resize": True, "size": {"height": 8, "width": 6}}).size == (8, 6)
    assert of({**PLAIN, "do_resize": True, "size": 8}).size == 8
    assert of({**PLAIN, "do_center_crop": True, "crop_size": 8}).crop == (8, 8)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"do_resize": True}, "lack 'size'"),
        ({"do_center_crop": True}, "lack 'crop_size'"),
        ({"resample": 5}, "resample is 5"),
        ({"resample": []}, r"resample is \[\[\]\]; use 1 number"),
        ({"image_std": ["a", "b", "c"]}, r"image_std is \['a', 'b', 'c'\]; use 3 numbers"),
        ({"rescale_factor": "x"}, r"rescale_factor is \['x'\]; use 1 number"),
        ({"do_resize": True, "size": {"shortest_edge": "x"}}, "has 'x'; use whole numbers"),
        ({"do_center_crop": True, "crop_size": "x"}, "crop_size has 'x'"),
    ],
)
def test_settings_that_are_missing_or_unknown(changes, cause):
    with pytest.raises(UserError, match=cause):
        Preprocessing.of({**PLAIN, **changes})


def test_a_crop_beyond_the_frame():
    settings = {**PLAIN, "do_center_crop": True, "crop_size": 8}
    with pytest.raises(UserError, match="frames of 6 x 20 cannot be cropped to 8 x 8"):
        Preprocessing.of(settings)(frames(6, 20))


@pytest.mark.parametrize("layout", ["hub", "nested", "old"])
def test_layouts_of_a_checkpoint(tmp_path, layout):
    folder = str(tiny_video.save_files(tmp_path, layout))
    assert load_preprocessing(folder) == Preprocessing.of(tiny_video.PICTURES)
    assert load_chat_template(folder) == tiny_video.TEMPLATE
    assert load_patch_size(folder) == (None if layout == "old" else 4)


def test_the_video_processors_file_counts_more_than_the_image_processors(tmp_path):
    tiny_video.save_files(tmp_path, "old")
    other = {**tiny_video.PICTURES, "size": {"shortest_edge": 48}}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(other))
    assert load_preprocessing(str(tmp_path)).size == 48


def test_a_folder_without_the_files_names_them(tmp_path):
    with pytest.raises(UserError) as error:
        load_preprocessing(str(tmp_path))
    for name in ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config"):
        assert name in str(error.value)
    assert load_chat_template(str(tmp_path)) is None


def official():
    """transformers' own processor, where torchvision can be imported."""
    try:
        import torchvision  # noqa: F401
        from transformers import LlavaNextImageProcessor, LlavaNextVideoProcessor
        from transformers import LlavaNextVideoVideoProcessor as VideoProcessor
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"the official processor needs torchvision, which cannot be imported: {error}")
    settings = {name: tiny_video.PICTURES[name] for name in ("size", "crop_size")}
    return LlavaNextVideoProcessor(
        video_processor=VideoProcessor(**settings),
        image_processor=LlavaNextImageProcessor(**settings),
        tokenizer=tiny_video.tokenizer(),
        patch_size=tiny_video.PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tiny_video.TEMPLATE,
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_frames_equal_the_official_processors(height, width):
    processor, pixels = official(), frames(height, width)
    theirs = processor.video_processor(videos=[pixels], return_tensors="pt").pixel_values_videos
    ours = Preprocessing.of(tiny_video.PICTURES)(pixels)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-6


def test_prompts_equal_the_official_processors(tmp_path):
    from transfer.adapters.video_model import VIDEO, load_video_model
    from transfer.tasks.video_records import Prompt

    processor = official()
    question = "what color is the square ?"
    content = [{"type": "video"}, {"type": "text", "text": question}]
    turns = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(turns, add_generation_prompt=True)
    theirs = processor(text=text, videos=[frames(48, 64, 3)], return_tensors="pt")
    model = load_video_model(tiny_video.save_llava(tmp_path))
    ours = model.prompt_ids(Prompt((VIDEO, f"\n{question}"), ("A", "B")), 3)
    assert torch.equal(ours, theirs.input_ids)

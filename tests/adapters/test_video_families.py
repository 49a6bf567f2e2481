"""Video models beside LLaVA-NeXT-Video are asked as their processors ask, and pruned exactly."""

import json
import math
import re
from contextlib import contextmanager
from functools import cache as remembered

import numpy as np
import pytest
import tiny_video_families
import torch
import transformers
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny_video_families import FAMILIES, PATCH, VOCABULARY, save
from transformers import (
    AutoModelForImageTextToText,
    DynamicCache,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRMSNorm

from transfer import attach, check_adapter
from transfer.adapters.kinds import kind_of
from transfer.adapters.qwen2_vl import QwenPreprocessing
from transfer.adapters.smolvlm import SmolPreprocessing, in_words
from transfer.adapters.video_adapter import Layout
from transfer.adapters.video_model import load_video_model
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache import dense
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.policies.random import Random
from transfer.tasks.video_records import FRAME, VIDEO, Prompt
from transfer.video.frames import Clip

QUESTION = "what color ?"
ASKED = Prompt((VIDEO, f"\n{QUESTION}"), ("A", "B", "red"))
QWEN = ("qwen2_vl", "qwen2_5_vl")
N_UP = 32

families = pytest.mark.parametrize("family", FAMILIES)


@remembered
def folder_of(family, root):
    path = root / family
    path.mkdir()
    return save(family, path)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@remembered
def loaded(folder):
    return load_video_model(folder, dtype=torch.float64)


@pytest.fixture
def video(family, root):
    return loaded(folder_of(family, root))


@contextmanager
def masked(video, cache, tokens):
    """Every query sees what it saw in the run that filled the cache."""
    dense.register()
    before = video.adapter.set_attention(dense.IMPLEMENTATION)
    modules = [video.adapter.attention_modules[layer.index] for layer in cache.pruned]
    for module, layer in zip(modules, cache.pruned):
        module.transfer_visibility = dense.visibility(layer, tokens)
    yield
    for module in modules:
        del module.transfer_visibility
    video.adapter.set_attention(before)


@pytest.fixture(autouse=True)
def double_norm(monkeypatch):
    # These compute in float32 whatever they are given.
    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    for norm in (LlamaRMSNorm, Qwen2RMSNorm, Qwen2_5_VLRMSNorm, Qwen2VLRMSNorm):
        monkeypatch.setattr(norm, "forward", forward)


def clip(frames=8, rate=0.5, height=64, width=128):
    """Frames at `rate` a second."""
    pixels = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    seconds = tuple(frame / rate for frame in range(frames))
    return Clip(pixels, seconds, tuple(range(frames)), frames / rate, "folder")


def full_run(video, ids):
    """Logits of the model's own pass, with the inputs that its processor gives it."""
    with torch.no_grad():
        return video.model(input_ids=ids, **own_inputs(video, ids), use_cache=False).logits


def qwen_inputs(ids, pixels):
    """Patches as the processor of Qwen2-VL lays them out, one loop for each axis."""
    frames, rows, columns = pixels.shape[1], pixels.shape[3] // PATCH, pixels.shape[4] // PATCH
    patches = [
        pixels[0, 2 * time : 2 * time + 2, :, top : top + PATCH, left : left + PATCH]
        .transpose(0, 1)
        .flatten()
        for time in range(frames // 2)
        for row in range(0, rows, 2)
        for column in range(0, columns, 2)
        for top in (row * PATCH, (row + 1) * PATCH)
        for left in (column * PATCH, (column + 1) * PATCH)
    ]
    return {
        "pixel_values_videos": torch.stack(patches).double(),
        "video_grid_thw": torch.tensor([[frames // 2, rows, columns]]),
        "second_per_grid_ts": torch.tensor([4.0]),
        "mm_token_type_ids": 2 * (ids == VOCABULARY["<|video_pad|>"]).int(),
    }


@families
def test_prefill_is_the_models_own_pass_in_any_chunks(video, family):
    features = video.encode(clip())
    assert features.tokens == FAMILIES[family].tokens
    ids = video.prompt_ids(ASKED, features)
    own = full_run(video, ids)[:, -1]
    assert (video.prefill(ids, features, None) - own).abs().max() < 1e-12
    for chunk in (None, 50, 7):
        cache = DynamicCache(config=video.adapter.config)
        assert (video.prefill(ids, features, cache, chunk) - own).abs().max() < 1e-12


@families
@pytest.mark.parametrize("chunk", [None, 50, 11])
def test_pruned_is_masked_with_the_positions_of_the_full_run(video, family, chunk):
    features = video.encode(clip())
    ids = video.prompt_ids(ASKED, features)
    own = full_run(video, ids)[:, -1]
    with Memory(video.adapter, Pruning(Random(), N_UP, 20, trace=True)) as memory:
        cache = memory.new_cache()
        pruned = video.prefill(ids, features, cache, chunk)
    with masked(video, cache, ids.shape[1]):
        expected = full_run(video, ids)[:, -1]
    assert (pruned - expected).abs().max() < 1e-12
    assert (pruned - own).abs().max() > 1e-3
    held = cache.pruned[0].positions()[0].tolist()
    assert len(held) < 20 + N_UP and any(video.is_video(ids)[0, at] for at in held)


def own_inputs(video, ids):
    """What the model's own processor gives it beside the ids."""
    pixels = video.preprocessing(clip().pixels).double()
    family = video.model.config.model_type
    if family not in QWEN:
        return {"pixel_values" if family == "smolvlm" else "pixel_values_videos": pixels}
    given = qwen_inputs(ids, pixels)
    if family == "qwen2_vl":
        # It knows no seconds.
        del given["second_per_grid_ts"]
    return given


@families
def test_check_adapter_takes_the_processors_inputs_of_a_padded_batch(video, family):
    ids = video.prompt_ids(ASKED, video.encode(clip()))
    text, padding = torch.full((1, 9), 70), torch.zeros(1, 9, dtype=torch.long)
    batch = torch.cat([torch.cat([text, ids], 1), torch.cat([padding, ids], 1)])
    mask = torch.ones_like(batch)
    mask[1, :9] = 0
    given = {name: torch.cat([value] * 2) for name, value in own_inputs(video, ids).items()}
    if family in QWEN:
        given["mm_token_type_ids"] = 2 * video.adapter.is_video(batch).int()
    check = check_adapter(video.model, {"input_ids": batch, "attention_mask": mask, **given})
    assert check.ok, str(check)
    assert max(check.full_error, check.pruned_error, check.step_error) < 1e-12


@families
@pytest.mark.parametrize("policy", ["full", "recency"])
def test_generation_is_transformers_own_with_the_same_cache(video, family, policy):
    """Its `generate` keeps positions of three axes by itself; ours has to come to the same."""
    features = video.encode(clip())
    ids = video.prompt_ids(ASKED, features)
    given = own_inputs(video, ids)
    budget = None if policy == "full" else 20
    with attach(video.model, policy, update_interval=N_UP, budget=budget) as memory:
        settings = {**given, "input_ids": ids, "max_new_tokens": 12, "do_sample": False}
        theirs = memory.new_cache()
        out = video.model.generate(**settings, cache=theirs)
        chunks = video.model.generate(**settings, cache=memory.new_cache(), prefill_chunk_size=16)
        assert torch.equal(chunks, out)
        ours = memory.new_cache()
        said = video.generate(video.prefill(ids, features, ours), ours, 12)
    new = out[0, ids.shape[1] :]
    assert said == video.tokenizer.decode(new, skip_special_tokens=True).strip()
    assert len(new) > 3
    assert policy == "full" or ours.kept() == theirs.kept()


@families
def test_answers_of_several_tokens_go_on_at_true_positions(video, family):
    features = video.encode(clip())
    ids = video.prompt_ids(ASKED, features)
    answer = video.chat.encode_answer("red")
    assert len(answer) > 2
    cache = DynamicCache(config=video.adapter.config)
    [found] = video.option_log_likelihoods(video.prefill(ids, features, cache), cache, ["red"])
    logits = full_run(video, torch.cat([ids, torch.tensor([answer])], 1))[0, ids.shape[1] - 1 :]
    expected = logits.log_softmax(-1)[range(len(answer)), answer].sum()
    assert found == pytest.approx(float(expected), abs=1e-10)
    assert cache.get_seq_length() == ids.shape[1]


@families
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_check_adapter_says_exact(family, dtype):
    check = check_adapter(tiny_video_families.build(family).to(dtype))
    assert check.ok, str(check)
    assert check.pruned_layers == check.layers == 3
    if dtype == torch.float64:
        assert max(check.full_error, check.pruned_error, check.step_error) < 1e-12


@families
def test_the_vision_tower_keeps_its_attention(family):
    model = tiny_video_families.build(family)
    with attach(model, "recency", update_interval=32, budget=16):
        assert model.config.text_config._attn_implementation == "transfer_pruned"
        assert model.config.vision_config._attn_implementation == "sdpa"


@families
def test_frames_are_encoded_alike_in_any_number(video, family):
    whole = video.encode(clip(40))
    halves = [video.encode(clip(40).pixels[at : at + 20]).tensor for at in (0, 20)]
    if family == "llava_onevision":
        halves[0] = halves[0][:, :-1]
    assert (whole.tensor - torch.cat(halves, 1)).abs().max() < 1e-10


def written(video, prompt, frames=2, rate=0.5):
    ids = video.prompt_ids(prompt, video.encode(clip(frames, rate)))
    return video.tokenizer.decode(ids[0])


PROMPTS = {
    "llava_onevision": "<|im_start|>user " + "<video>" * 19 + f"\n{QUESTION}<|im_end|>"
    "<|im_start|>assistant\n",
    **dict.fromkeys(
        QWEN,
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|>" + "<|video_pad|>" * 8 + f"<|vision_end|>{QUESTION}<|im_end|>\n"
        "<|im_start|>assistant\n",
    ),
    "smolvlm": "<|im_start|>User: You are provided the following series of two frames from a "
    "0:02:10 [H:MM:SS] video.\n"
    + "".join(
        f"\nFrame from {time}:<fake_token_around_image><global-img>{'<image>' * 9}"
        "<fake_token_around_image>"
        for time in ("00:00", "01:05")
    )
    + f"\n\n{QUESTION}<end_of_utterance>\nAssistant:",
}


@families
def test_a_prompt_is_written_as_the_processor_writes_it(video, family):
    assert written(video, ASKED, rate=1 / 65) == PROMPTS[family]


@families
def test_system_prefill_and_a_question_before_the_video(video, family):
    text = written(video, Prompt((f"{QUESTION} ", VIDEO), ("A", "B"), "Look.", "Best: ("))
    assert text.count("Look.") == 1 and text.endswith("Best: (")
    question, place = text.index(QUESTION), text.index(video._word(video.adapter.video_token))
    assert text.index("Look.") < question < place
    behind = written(video, Prompt((VIDEO, f"\n{QUESTION}"), ("A", "B"), "Look.", "Best: ("))
    assert behind.count("Look.") == 1 and behind.endswith("Best: (")


@families
def test_texts_between_frames(video, family):
    prompt = Prompt((FRAME, "A", FRAME, "B", FRAME, QUESTION), ("A", "B"))
    text = written(video, prompt, 3)
    assert FRAME not in text
    token = video._word(video.adapter.video_token)
    pieces = [piece.count(token) for piece in re.split("[AB](?!s)", text)]
    # Two frames that share tokens stand before the text between them.
    assert pieces == {
        "llava_onevision": [9, 9, 10],
        "smolvlm": [9, 9, 9],
    }.get(family, [8, 0, 8])


@pytest.mark.parametrize("family", QWEN)
def test_frames_with_texts_between_them_are_videos_of_their_own(video, family):
    prompt = Prompt((FRAME, FRAME, "A", FRAME, FRAME, QUESTION), ("A", "B"))
    features = video.encode(clip(4))
    ids = video.prompt_ids(prompt, features)
    given = qwen_inputs(ids, video.preprocessing(clip(4).pixels))
    given["video_grid_thw"] = torch.tensor([[1, 4, 8]] * 2)
    given["second_per_grid_ts"] = torch.tensor([4.0] * 2)
    with torch.no_grad():
        own = video.model(ids, **given, use_cache=False).logits[:, -1]
    assert (video.prefill(ids, features, None) - own).abs().max() < 1e-12


@families
def test_a_number_of_frames_says_enough_or_not(video, family):
    if video.adapter.frames_say_all:
        features = video.encode(clip(3))
        assert torch.equal(video.prompt_ids(ASKED, 3), video.prompt_ids(ASKED, features))
        return
    with pytest.raises(UserError, match="make the prompt for its features"):
        video.prompt_ids(ASKED, 3)


@families
def test_a_prompt_beyond_the_positions_says_how_many_frames_fit(video, family, monkeypatch):
    monkeypatch.setattr(video.adapter.config, "max_position_embeddings", 500)
    many = video.encode(clip(200, height=16, width=24))
    with pytest.raises(UserError, match=r"the model has 500 positions; \d+ frames fit$") as error:
        video.prompt_ids(ASKED, many)
    fit = int(str(error.value).split()[-3])
    assert fit > 10
    assert video.prompt_ids(ASKED, video.encode(clip(fit, height=16, width=24))).shape[1] > 350


@families
def test_a_question_with_the_models_own_token(video, family):
    token = video._word(video.adapter.video_token)
    with pytest.raises(UserError, match="holds the model's own token"):
        written(video, Prompt((VIDEO, f"\nwhat is {token} ?"), ("A", "B")))


@pytest.mark.parametrize("family", QWEN)
def test_positions_are_those_of_the_times_rows_and_columns(video, family):
    features = video.encode(clip(4, rate=0.25, height=16, width=24))
    assert features.layout.grid == (2, 2, 3)
    ids = video.prompt_ids(Prompt((VIDEO, f"\n{QUESTION}"), ("A",)), features)
    positions = video.adapter.position_ids(ids, features.layout)[:, 0]
    first = int(video.is_video(ids)[0].int().argmax())
    # Two frames, four seconds apart, are one time: 2 positions a second, or one a time.
    apart = 16 if family == "qwen2_5_vl" else 1
    times, rows, columns = (positions[:, first : first + 12] - first).tolist()
    assert times == [0] * 6 + [apart] * 6
    assert rows == [0, 0, 0, 1, 1, 1] * 2
    assert columns == [0, 1, 2] * 4
    assert positions[:, :first].tolist() == [list(range(first))] * 3
    behind = positions[:, first + 12 :]
    assert behind.tolist() == [list(range(first + 3, first + 3 + behind.shape[1]))] * 3


@pytest.mark.parametrize("family", QWEN)
def test_a_second_prompt_goes_on_behind_the_first_whatever_was_evicted(video, family):
    """Its video stands at the next position, as if both had been read at once."""
    features = video.encode(clip())
    ids = video.prompt_ids(ASKED, features)
    given = qwen_inputs(ids.repeat(1, 2), video.preprocessing(clip().pixels))
    twice = {name: torch.cat([value] * 2) for name, value in given.items()}
    twice["mm_token_type_ids"] = given["mm_token_type_ids"]
    with torch.no_grad():
        own = video.model(ids.repeat(1, 2), **twice, use_cache=False).logits[:, -1]
    cache = DynamicCache(config=video.adapter.config)
    video.prefill(ids, features, cache)
    assert (video.prefill(ids, features, cache, 9) - own).abs().max() < 1e-12
    with attach(video.model, "recency", update_interval=N_UP, budget=20) as memory:
        pruned = memory.new_cache()
        video.prefill(ids, features, pruned)
        video.prefill(ids, features, pruned)
    assert pruned.transfer_ahead == cache.transfer_ahead != 0


@pytest.mark.parametrize("family", QWEN)
def test_a_cache_that_somebody_else_filled_says_no_positions(video, family):
    features = video.encode(clip())
    ids = video.prompt_ids(ASKED, features)
    cache = DynamicCache(config=video.adapter.config)
    with torch.no_grad():
        video.model(ids, cache=cache)
    with pytest.raises(UserError, match="no numbers of tokens, and this cache does not say them"):
        video.prefill(ids, features, cache)


def test_times_are_of_the_frames_not_of_their_number():
    adapter = get_adapter(tiny_video_families.build("qwen2_5_vl"))

    def seconds(*times):
        return adapter._seconds(Layout(len(times), (1, 1, 1), times))

    assert seconds(*(frame / 3 for frame in range(9))) == pytest.approx(2 / 3, abs=1e-6)
    # A file's rounding of times makes no whole position less.
    assert seconds(0.0, 0.999999999, 1.9999999) == 2.0
    assert seconds(5.0) == seconds() == 1.0


@given(st.integers(1, 400), st.integers(1, 400))
def test_frames_keep_their_shape_within_a_budget_as_the_processors_do(height, width):
    assume(max(height, width) <= 200 * min(height, width))
    made = QwenPreprocessing.of(FAMILIES["qwen2_vl"].file).sizes(8, height, width)
    assert list(made) == [smart_resize(height, width, 8, 8 * 8 * 6, 8 * 8 * 12)]


def test_frames_too_long_for_the_processor():
    preprocessing = QwenPreprocessing.of(FAMILIES["qwen2_vl"].file)
    with pytest.raises(UserError, match="longer than 200 times"):
        preprocessing(np.zeros((1, 1, 201, 3), np.uint8))


def test_all_frames_share_a_budget_where_the_file_says_so():
    file = {**FAMILIES["qwen2_vl"].file, "max_pixels": 10**6, "max_video_tokens": 100}
    sizes = [
        math.prod(
            QwenPreprocessing.of({**file, "cap_pixels_per_frame": cap})(clip(20).pixels).shape[-2:]
        )
        for cap in (True, False)
    ]
    assert sizes[0] <= 100 * 64 * 0.9 * 2 / 20 < sizes[1] == 64 * 128


@pytest.mark.parametrize(
    ("kind", "changes", "cause"),
    [
        (QwenPreprocessing, {"size": "x", "min_pixels": None}, "size is 'x'; use an object"),
        (QwenPreprocessing, {"patch_size": 0}, "patch_size is 0; use a whole number"),
        (
            QwenPreprocessing,
            {"size": {"height": 3}, "min_pixels": None},
            "size.shortest_edge is None; use a whole",
        ),
        (QwenPreprocessing, {"max_video_tokens": "many"}, "max_video_tokens is 'many'; use"),
        (SmolPreprocessing, {"max_image_size": 5}, "max_image_size is 5; use an object"),
        (SmolPreprocessing, {"size": {"longest_edge": 1.5}}, "size.longest_edge is 1.5; use a"),
        (SmolPreprocessing, {"video_sampling": []}, r"video_sampling is \[\]; use an object"),
        (SmolPreprocessing, {"video_sampling": {}}, r"size is None; use an object"),
    ],
)
def test_settings_that_are_wrong(kind, changes, cause):
    file = FAMILIES["qwen2_vl" if kind is QwenPreprocessing else "smolvlm"].file
    with pytest.raises(UserError, match=cause):
        kind.of({**file, **changes})


#: As Qwen/Qwen2-VL-7B-Instruct and Qwen/Qwen2.5-VL-7B-Instruct have it: flat, in the words of their
#: time.
_SEVEN_B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rope_theta": 1e6,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "sliding_window": 32768,
    "use_sliding_window": False,
    "vocab_size": 152064,
}


@pytest.mark.parametrize(
    ("config", "vision", "most"),
    [
        (Qwen2VLConfig, {"embed_dim": 1280, "mlp_ratio": 4}, 32768),
        (Qwen2_5_VLConfig, {"hidden_size": 1280, "intermediate_size": 3420}, 128000),
    ],
)
def test_the_shapes_of_the_7b_models_without_their_weights(config, vision, most):
    made = config(**_SEVEN_B, vision_config=vision, max_position_embeddings=most)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(made)
    adapter = get_adapter(model)
    assert adapter.positions == most
    assert adapter.grid(32, (364, 644)) == (16, 13, 23)
    assert [module.layer_idx for module in adapter.attention_modules] == list(range(28))
    with attach(model, "recency", budget=0.25) as memory:
        assert len(memory.new_cache().pruned) == 28


def test_frames_that_cannot_be_cut_into_patches(root):
    video = load_video_model(folder_of("qwen2_vl", root))
    with pytest.raises(UserError, match="frames of 20 x 33 cannot be cut into 8 x 8 pixels"):
        video.adapter.grid(8, (20, 33))


@pytest.mark.parametrize(
    ("family", "changes", "cause"),
    [
        ("llava_onevision", {"size": {"height": 16, "width": 16}}, r"frames of \(16, 16\) pixels"),
        ("qwen2_vl", {"patch_size": 8}, "tokens show 16 pixels and 2 frames, and .* for 8 and 2"),
        ("qwen2_5_vl", {"temporal_patch_size": 1}, "show 8 pixels and 1 frames, and .* 8 and 2"),
        ("smolvlm", {"max_image_size": {"longest_edge": 32}}, r"frames of \(32, 32\) pixels"),
    ],
)
def test_the_processor_of_another_vision_tower(tmp_path, family, changes, cause):
    save(family, tmp_path)
    one = FAMILIES[family]
    (tmp_path / one.name).write_text(json.dumps({**one.file, **changes}))
    with pytest.raises(UserError, match=cause):
        load_video_model(tmp_path)


def test_towers_whose_patches_make_no_grid():
    model = tiny_video_families.build("llava_onevision")
    model.config.vision_feature_select_strategy = "default"
    with pytest.raises(UserError, match="videos of llava_onevision need 'full'"):
        get_adapter(model)
    model = tiny_video_families.build("smolvlm")
    model.config.scale_factor = 4
    with pytest.raises(UserError, match="6 x 6 patches, which cannot be joined by 4"):
        get_adapter(model)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (20, "twenty"),
        (64, "sixty-four"),
        (100, "one hundred"),
        (128, "one hundred and twenty-eight"),
        (1000, "one thousand"),
        (1024, "one thousand and twenty-four"),
        (12345, "twelve thousand, three hundred and forty-five"),
    ],
)
def test_numbers_in_words(number, words):
    assert in_words(number) == words


@families
def test_a_folder_is_a_video_models(family, root):
    assert kind_of(folder_of(family, root)) == "video"


def official(family):
    """transformers' own processor, where torchvision can be imported."""
    try:
        import torchvision  # noqa: F401
        from transformers import AutoImageProcessor, AutoProcessor  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"the official processors need torchvision: {error}")
    if family == "smolvlm":
        pytest.importorskip("num2words")
    one = FAMILIES[family]
    words = {"llava_onevision": "LlavaOnevision", "qwen2_vl": "Qwen2VL", "smolvlm": "SmolVLM"}
    name = words.get(family, "Qwen2_5_VL")
    pictures = "Qwen2VL" if family in QWEN else name
    return getattr(transformers, f"{name}Processor")(
        video_processor=getattr(transformers, f"{pictures}VideoProcessor")(**one.file),
        image_processor=getattr(transformers, f"{pictures}ImageProcessor")(),
        tokenizer=tiny_video_families.tokenizer(),
        chat_template=one.template,
        **one.processor,
    )


@families
@pytest.mark.parametrize(("height", "width"), [(64, 128), (37, 30), (200, 90), (8, 20), (24, 24)])
def test_inputs_equal_the_official_processors(video, family, height, width):
    processor, shown = official(family), clip(7, 0.5, height, width)
    metadata = {"total_num_frames": 7, "fps": 0.5, "frames_indices": list(range(7)), "duration": 14}
    content = [{"type": "video"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    theirs = processor(
        text=text, videos=[shown.pixels], video_metadata=[metadata], return_tensors="pt"
    )
    features = video.encode(shown)
    ids = video.prompt_ids(ASKED, features)
    assert torch.equal(ids, theirs.input_ids)
    given = {name: value for name, value in theirs.items() if name != "attention_mask"}
    if family == "qwen2_vl":
        given.pop("second_per_grid_ts", None)
    with torch.no_grad():
        expected = video.model(**given, use_cache=False).logits[:, -1]
    # The processor's pixels are in single precision.
    assert (video.prefill(ids, features, None) - expected).abs().max() < 1e-4

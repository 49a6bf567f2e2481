"""LLaVA-NeXT-Video: its text model is pruned exactly, video tokens too; its vision tower not."""

import pytest
import tiny
import tiny_video
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    MistralConfig,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from transfer import attach, check_adapter
from transfer.adapters.llava_next_video import LlavaNextVideoAdapter
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache import dense
from transfer.cache.attention import IMPLEMENTATION
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.policies.random import Random

FRAMES, N_UP = 8, 32


@pytest.fixture
def double_norm(monkeypatch):
    # LlamaRMSNorm computes in float32 whatever it is given.
    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


def inputs(dtype=torch.float32):
    """20 text tokens, 128 of the video, 30 text tokens."""
    ids = torch.randint(6, 60, (1, 20 + FRAMES * 16 + 30))
    ids[:, 20 : 20 + FRAMES * 16] = 5
    return ids, torch.randn(1, FRAMES, 3, 32, 32, dtype=dtype)


def dense_logits(model, cache, ids, pixels):
    """The model's own forward pass, from pixels, with every visibility as a mask."""
    adapter = get_adapter(model)
    dense.register()
    adapter.set_attention(dense.IMPLEMENTATION)
    for layer in cache.pruned:
        module = adapter.attention_modules[layer.index]
        module.transfer_visibility = dense.visibility(layer, ids.shape[1])
    with torch.no_grad():
        return model(ids, pixel_values_videos=pixels, use_cache=False).logits


@pytest.mark.parametrize("chunk", [200, 50, 1])
@pytest.mark.parametrize("policy", [tiny.Uneven(), Random()], ids=["uneven", "random"])
def test_pruned_logits_equal_masked_ones_with_video_tokens(double_norm, chunk, policy):
    model = tiny_video.llava().double()
    adapter = get_adapter(model)
    ids, pixels = inputs(torch.float64)
    budget = 40 if policy.threshold is None else None
    with Memory(adapter, Pruning(policy, N_UP, budget, trace=True)) as memory, torch.no_grad():
        cache = memory.new_cache()
        embeddings = adapter.embed(ids, adapter.encode(pixels))
        parts = embeddings.split(chunk, 1)
        pruned = torch.cat([model(inputs_embeds=p, cache=cache).logits for p in parts], 1)
    with torch.no_grad():
        full = model(ids, pixel_values_videos=pixels, use_cache=False).logits
    masked = dense_logits(model, cache, ids, pixels)
    assert (pruned - masked).abs().max() <= 1e-6
    assert (full - masked).abs().max() > 0.1
    held = torch.cat(cache.pruned[0].positions())
    assert 0 < int(((held >= 20) & (held < 148)).sum()) < 2 * FRAMES * 16


def test_transformers_own_generate_with_pixels_is_pruned_alike(double_norm):
    model = tiny_video.llava(text={"eos_token_id": None}).double()
    model.generation_config.eos_token_id = None
    ids, pixels = inputs(torch.float64)
    with attach(model, Random(), update_interval=N_UP, budget=40) as memory:
        cache = memory.new_cache()
        out = model.generate(
            input_ids=ids,
            pixel_values_videos=pixels,
            cache=cache,
            max_new_tokens=20,
            do_sample=False,
        )
        again = memory.new_cache()
        adapter = get_adapter(model)
        seen = out[:, :-1]
        embeddings = model.get_input_embeddings()(seen)
        embeddings[:, : ids.shape[1]] = adapter.embed(ids, adapter.encode(pixels))
        with torch.no_grad():
            logits = model(inputs_embeds=embeddings, cache=again).logits
    assert torch.equal(logits[:, ids.shape[1] - 1 :].argmax(-1), out[:, ids.shape[1] :])
    assert cache.kept() == again.kept()
    assert max(max(layer[0]) for layer in cache.kept()) < 40 + N_UP


def test_the_vision_tower_keeps_its_attention():
    model = tiny_video.llava()
    vision, text = model.model.vision_tower.config, model.model.language_model.config
    assert vision._attn_implementation == "sdpa"
    with attach(model, "recency", update_interval=32, budget=16):
        assert text._attn_implementation == IMPLEMENTATION
        assert vision._attn_implementation == "sdpa"
    assert text._attn_implementation == "sdpa"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_check_adapter(dtype):
    model = tiny_video.llava().to(dtype)
    assert type(get_adapter(model)) is LlavaNextVideoAdapter
    check = check_adapter(model)
    assert check.ok, str(check)
    assert (check.layers, check.pruned_layers) == (3, 3)
    assert "llava_next_video: pruned and exact" in str(check)


def test_check_adapter_when_no_frame_fits():
    check = check_adapter(tiny_video.llava(vision={"image_size": 128}))
    assert check.ok, str(check)


def test_a_mistral_as_text_model():
    base = tiny_video.llava().config
    text = MistralConfig(**{**base.text_config.to_dict(), "sliding_window": None})
    config = LlavaNextVideoConfig(
        vision_config=base.vision_config, text_config=text, image_token_index=4, video_token_index=5
    )
    check = check_adapter(LlavaNextVideoForConditionalGeneration(config))
    assert check.ok, str(check)
    assert check.pruned_layers == 3


#: As llava-hf/LLaVA-NeXT-Video-7B-hf has it, in the words of its time.
SEVEN_B = {
    "vocab_size": 32064,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 4096,
    "rope_scaling": {"factor": 2.5, "type": "linear"},
    "rms_norm_eps": 1e-5,
}


def test_the_shape_of_the_7b_model_without_its_weights():
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    config = LlavaNextVideoConfig(
        vision_config=vision,
        text_config=LlamaConfig(**SEVEN_B),
        image_token_index=32001,
        video_token_index=32000,
    )
    with torch.device("meta"):
        model = LlavaNextVideoForConditionalGeneration(config)
    adapter = get_adapter(model)
    assert isinstance(adapter, LlavaNextVideoAdapter)
    assert [module.layer_idx for module in adapter.attention_modules] == list(range(32))
    assert adapter.config.num_attention_heads == adapter.config.num_key_value_heads == 32
    assert adapter.grid(32) == (32, 12, 12)
    assert adapter.positions == 10240
    features = adapter.encode(torch.empty(1, 32, 3, 336, 336, device="meta"))
    assert features.shape == (1, 4608, 4096)
    with torch.no_grad():
        assert model(inputs_embeds=features, logits_to_keep=1).logits.shape == (1, 1, 32064)
    with attach(model, "recency", budget=0.25) as memory:
        assert [layer.index for layer in memory.new_cache().pruned] == list(range(32))
        assert model.model.vision_tower.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("rope", "positions"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 512),
        ({"rope_type": "linear", "factor": 2.5, "rope_theta": 1e4}, 1280),
        ({"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}, 512),
    ],
)
def test_positions(rope, positions):
    adapter = get_adapter(tiny_video.llava(text={"rope_parameters": rope}))
    assert adapter.positions == positions


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"vision": {"image_size": 36}}, "9 x 9 patches, which cannot be joined by 2"),
        ({"vision_feature_select_strategy": "full"}, "strategy is 'full'; videos need 'default'"),
    ],
)
def test_models_whose_video_tokens_cannot_be_counted(changes, cause):
    model = tiny_video.llava(**changes)
    with pytest.raises(UserError, match=cause):
        attach(model, "full")


def test_frames_and_video_tokens_have_to_match():
    model = tiny_video.llava()
    adapter = get_adapter(model)
    ids, pixels = inputs()
    with pytest.raises(UserError, match="has 128 video tokens and the video 64; make the prompt"):
        adapter.embed(ids, adapter.encode(pixels[:, :4]))
    with pytest.raises(UserError, match="has 128 video tokens and the video 0"):
        adapter.embed(ids, None)


def test_frames_are_encoded_alike_in_any_number():
    model = tiny_video.llava()
    pixels = torch.randn(1, 40, 3, 32, 32)
    with torch.no_grad():
        stock = model.get_video_features(pixels, return_dict=True).pooler_output
    ours = get_adapter(model).encode(pixels)
    assert ours.shape == (1, 640, 64)
    assert (ours - stock).abs().max() < 1e-5

"""Tiny video models of every family but LLaVA-NeXT-Video, with the files of their processors."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

#: As `pixels` of the vision towers: patches of 4, of which 2 x 2 make a token.
SIDE, PATCH = 24, 4
_WORDS = (
    "<pad> <s> </s> <image> <video> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|>"
    " <|video_pad|> <|image_pad|> <fake_token_around_image> <global-img> <end_of_utterance>"
)
_TEXTS = (
    "You are provided the following series of |[H:MM:SS] video.\n|\nFrame from | frames from a "
    "|You are a helpful assistant."
)
SPECIAL = _WORDS.split()
#: Every other byte is a token, so that no space is lost, and some texts are, so that prompts are
#: short.
TEXTS = _TEXTS.split("|")
VOCABULARY = {
    word: at
    for at, word in enumerate([*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *TEXTS])
}

TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
}
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
_QWEN = {
    "text_config": {**TEXT, "rope_parameters": _ROPE},
    "video_token_id": VOCABULARY["<|video_pad|>"],
    "image_token_id": VOCABULARY["<|image_pad|>"],
    "vision_start_token_id": VOCABULARY["<|vision_start|>"],
    "vision_end_token_id": VOCABULARY["<|vision_end|>"],
}
_QWEN_VISION = {"depth": 2, "num_heads": 4, "patch_size": PATCH, "initializer_range": 0.2}


def _onevision() -> PreTrainedModel:
    return LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(**_VISION, vision_use_head=False),
            text_config=Qwen2Config(**TEXT),
            image_token_index=VOCABULARY["<image>"],
            video_token_index=VOCABULARY["<video>"],
            image_grid_pinpoints=[[SIDE, SIDE]],
        )
    )


def _qwen2() -> PreTrainedModel:
    vision = {**_QWEN_VISION, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(**_QWEN, vision_config=vision))


def _qwen2_5() -> PreTrainedModel:
    vision = {
        **_QWEN_VISION,
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 64,
        "window_size": 4 * PATCH,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    }
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**_QWEN, vision_config=vision))


def _smol() -> PreTrainedModel:
    return SmolVLMForConditionalGeneration(
        SmolVLMConfig(
            vision_config=_VISION,
            text_config=LlamaConfig(**TEXT),
            image_token_id=VOCABULARY["<image>"],
            scale_factor=2,
        )
    )


#: As the hub's llava-hf/llava-onevision-qwen2-0.5b-ov-hf lays a conversation out.
_ONEVISION_TEMPLATE = """\
{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}\
{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}\
{% endfor %}\
{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
{{ '\\n' + content['text'] }}{% endfor %}{{'<|im_end|>'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
#: As Qwen/Qwen2-VL-2B-Instruct's.
_QWEN_TEMPLATE = """\
{% for message in messages %}{% if loop.first and message['role'] != 'system' %}\
<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}\
<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}\
{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}\
{% if content['type'] == 'video' or 'video' in content %}\
<|vision_start|><|video_pad|><|vision_end|>\
{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}\
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"""

_COLOURS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.3, 0.5]}
_QWEN_FILE = {
    **_COLOURS,
    "min_pixels": 8 * 8 * 6,
    "max_pixels": 8 * 8 * 12,
    "patch_size": PATCH,
    "temporal_patch_size": 2,
    "merge_size": 2,
}


@dataclass(frozen=True)
class Family:
    """How one is built, what its processor's file says, and its chat template.

    Attributes:
        build: random weights.
        file: of its pictures, in `name`.
        template: None: of the processor itself.
        tokens: of 8 frames of 64 x 128 pixels.
    """

    build: Callable[[], PreTrainedModel]
    file: dict[str, Any]
    name: str
    tokens: int
    template: str | None = None
    processor: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    "llava_onevision": Family(
        _onevision,
        {**_COLOURS, "size": {"height": SIDE, "width": SIDE}, "resample": 3},
        "video_preprocessor_config.json",
        # 3 x 3 of each frame, and one at the end.
        8 * 9 + 1,
        _ONEVISION_TEMPLATE,
        {"num_image_tokens": 36, "vision_feature_select_strategy": "full"},
    ),
    "qwen2_vl": Family(_qwen2, _QWEN_FILE, "preprocessor_config.json", 4 * 8, _QWEN_TEMPLATE),
    "qwen2_5_vl": Family(_qwen2_5, _QWEN_FILE, "preprocessor_config.json", 4 * 8, _QWEN_TEMPLATE),
    "smolvlm": Family(
        _smol,
        {
            "max_image_size": {"longest_edge": SIDE},
            "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 50}},
        },
        "preprocessor_config.json",
        8 * 9,
        processor={"image_seq_len": 9},
    ),
}


def build(family: str) -> PreTrainedModel:
    """A model of random weights with a text model of 3 layers, 4 heads and 2 KV heads."""
    torch.manual_seed(0)
    return FAMILIES[family].build().eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """Of bytes, and the special tokens."""
    bytewise = Tokenizer(models.BPE(VOCABULARY, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        pad_token="<pad>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL,
    )
    made.add_tokens(TEXTS)
    return made


def save(family: str, folder: Path, model: PreTrainedModel | None = None) -> Path:
    """A model with its tokenizer and the files of its processor, as on the hub."""
    one = FAMILIES[family]
    (model or build(family)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    (folder / one.name).write_text(json.dumps(one.file))
    (folder / "processor_config.json").write_text(json.dumps(one.processor))
    if one.template:
        (folder / "chat_template.jinja").write_text(one.template)
    return folder

"""The small LLaVA-NeXT-Video that ships: its shape, its words, and the files of its processor."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from transfer.files import replacing, write_json
from transfer.pretrain.video_llava.forms import vocabulary
from transfer.tasks.video_drawing import CELL, SIDE

PATCH = CELL // 2
TOKENS_PER_FRAME = (SIDE // CELL) ** 2
POSITIONS = 4096
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE]]
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "<video>")
_CHAT = (
    "{% for message in messages %}{{ message['role'].upper() + ':' }}"
    "{% for part in message['content'] %}{{ ' ' }}"
    "{% if part['type'] == 'video' %}<video>{% elif part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word or sign; a prompt begins with <s>."""
    words = [*_SPECIAL, *vocabulary()]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", words.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>", "video_token": "<video>"},
        padding_side="left",
        model_max_length=POSITIONS,
    )


def new_model(
    tokenizer: PreTrainedTokenizerFast, seed: int, width: int = 128, layers: int = 5
) -> LlavaNextVideoForConditionalGeneration:
    """Random weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaNextVideoForConditionalGeneration(_config(tokenizer, width, layers))
        picture = model.model.vision_tower.get_submodule("embeddings")
        # CLIP's own 0.02 would leave the place of a patch far fainter than what it shows
        torch.nn.init.normal_(picture.get_parameter("patch_embedding.weight"), std=0.07)
        torch.nn.init.normal_(picture.get_parameter("position_embedding.weight"), std=0.7)
    return model


def _config(tokenizer: PreTrainedTokenizerFast, width: int, layers: int) -> LlavaNextVideoConfig:
    # tokens of their own, in this order
    ids = dict(zip(_SPECIAL, range(len(_SPECIAL))))
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=64,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        initializer_range=0.05,
        pad_token_id=ids["<pad>"],
        bos_token_id=ids["<s>"],
        eos_token_id=ids["</s>"],
    )
    return LlavaNextVideoConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        spatial_pool_mode="average",
        spatial_pool_stride=2,
        image_grid_pinpoints=_PINPOINTS,
        image_seq_length=(SIDE // PATCH) ** 2,
        video_seq_length=TOKENS_PER_FRAME,
    )


def save_processor(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Tokenizer, sizes and prompt, in the files that transformers' own processor has."""
    tokenizer.save_pretrained(folder)
    pictures = {
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": SIDE},
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(DEVIATION),
        "resample": 3,
    }
    files = {
        "video_preprocessor_config": pictures
        | {"video_processor_type": "LlavaNextVideoVideoProcessor"},
        "preprocessor_config": pictures
        | {
            "image_processor_type": "LlavaNextImageProcessor",
            "image_grid_pinpoints": _PINPOINTS,
        },
        "processor_config": {
            "patch_size": PATCH,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
            "image_token": "<image>",
            "video_token": "<video>",
        },
    }
    for name, content in files.items():
        write_json(
            folder / f"{name}.json", content | {"processor_class": "LlavaNextVideoProcessor"}
        )
    with replacing(folder / "chat_template.jinja") as partial:
        partial.write_text(_CHAT, encoding="utf-8")

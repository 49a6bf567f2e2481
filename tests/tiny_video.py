"""A tiny LLaVA-NeXT-Video with the files of its processor, and videos, written by the tests."""

import json
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    PreTrainedTokenizerFast,
)

#: 8 x 8 patches, pooled to 16 tokens a frame.
SIDE, PATCH = 32, 4
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "<video>")
WORDS = "USER: ASSISTANT: A B C D what color is the square ? red green blue Best Option: ( before"

#: As the hub's llava-hf/LLaVA-NeXT-Video-7B-hf lays a conversation out: media first, then text.
TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] != 'system' -%}{{ message['role'].upper() + ': ' }}{%- endif -%}
{%- for part in message['content'] if part['type'] == 'image' -%}{{ '<image>\\n' }}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'video' -%}{{ '<video>\\n' }}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}
{{ part['text'] + ' ' }}
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""

PICTURES = {
    "do_resize": True,
    "size": {"shortest_edge": SIDE},
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}
PROCESSOR = {
    "processor_class": "LlavaNextVideoProcessor",
    "patch_size": PATCH,
    "vision_feature_select_strategy": "default",
    "num_additional_image_tokens": 1,
    "image_token": "<image>",
    "video_token": "<video>",
}


def tokenizer(words: str = WORDS) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *dict.fromkeys(words.split())])}
    split = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    split.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    split.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=split,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>", "video_token": "<video>"},
    )


def llava(text: dict | None = None, vision: dict | None = None, **changes):
    """A model of random weights with a Llama of 3 layers, 8 heads and 2 KV heads."""
    config = LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(
            **{
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": SIDE,
                "patch_size": PATCH,
                **(vision or {}),
            }
        ),
        text_config=LlamaConfig(
            **{
                "vocab_size": 64,
                "hidden_size": 64,
                "intermediate_size": 96,
                "num_hidden_layers": 3,
                "num_attention_heads": 8,
                "num_key_value_heads": 2,
                "max_position_embeddings": 512,
                "initializer_range": 0.2,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "eos_token_id": 2,
                **(text or {}),
            }
        ),
        image_token_index=4,
        video_token_index=5,
        image_grid_pinpoints=[[SIDE, SIDE]],
        **changes,
    )
    torch.manual_seed(0)
    return LlavaNextVideoForConditionalGeneration(config).eval()


def save_files(folder: Path, layout: str = "hub") -> Path:
    """Processor files as on the hub ("hub"), of transformers 5 ("nested"), or of the time before
    ("old": no patch size, the image processor's file, a template in JSON)."""
    files = {
        "hub": {"video_preprocessor_config.json": PICTURES, "processor_config.json": PROCESSOR},
        "nested": {"processor_config.json": {**PROCESSOR, "video_processor": PICTURES}},
        "old": {
            "preprocessor_config.json": {**PICTURES, "do_pad": True},
            "processor_config.json": {"processor_class": "LlavaNextVideoProcessor"},
            "chat_template.json": {"chat_template": TEMPLATE},
        },
    }[layout]
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    if layout != "old":
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def save_llava(folder: Path, model=None, layout: str = "hub", words: str = WORDS) -> Path:
    """A model with its tokenizer and the files of its processor."""
    (model or llava()).save_pretrained(folder)
    tokenizer(words).save_pretrained(folder)
    return save_files(folder, layout)


def picture(number: int, height: int = 64, width: int = 128) -> np.ndarray:
    """A frame that tells its number: eight stripes of bits, the top left corner red."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    frame = np.repeat(np.array(bits, np.uint8) * 200 + 20, width // 8)
    frame = np.broadcast_to(frame[None, :, None], (height, width, 3)).copy()
    frame[: height // 4, : width // 8] = (230, 20, 20)
    return frame


def number(frame: np.ndarray) -> int:
    """What `picture` wrote into an upright frame."""
    row, stripe = frame[-8:].mean((0, 2)), frame.shape[1] // 8
    return sum(int(row[b * stripe + stripe // 2] > 120) << b for b in range(8))


def write_video(
    path: Path,
    frames: int | Sequence[np.ndarray] = 50,
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    **options: str,
) -> Path:
    """Encode frames (`picture`s by default) at 25 a second, or at `times` in milliseconds."""
    pictures = [picture(i) for i in range(frames)] if isinstance(frames, int) else list(frames)
    if codec == "libx264":
        options = {"g": "12", "bf": "2", **options}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = pictures[0].shape[:2] if pictures else (64, 128)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        container.start_encoding()
        for i, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = times[i] if times else i * 40, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rotate(path: Path, degrees: int) -> None:
    """Write into an mp4 file that it is to be turned clockwise when shown."""
    sine, cosine = {90: (1, 0), 180: (0, -1), 270: (-1, 0)}[degrees]
    matrix = (cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 14)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(">9i", *(value << 16 for value in matrix))
    path.write_bytes(content)


def cut_beginning(source: Path, path: Path, seconds: float) -> Path:
    """A copy of the packets that an edit list shows from `seconds` on, as a lossless cut makes."""
    with av.open(str(source)) as before, av.open(str(path), "w") as after:
        stream = before.streams.video[0]
        copied = after.add_stream_from_template(stream)
        shift = int(seconds / stream.time_base)
        for packet in before.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - shift,
                    packet.dts - shift,
                    copied,
                )
                after.mux(packet)
    return path


def cut_end(path: Path, share: float) -> None:
    """Change the edit list of an mp4 file so that only the first share of it is shown."""
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 12
    (duration,) = struct.unpack(">I", content[place : place + 4])
    content[place : place + 4] = struct.pack(">I", int(duration * share))
    path.write_bytes(content)

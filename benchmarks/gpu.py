"""The GPU kernels at the shape of Llama 3 8B in bfloat16: features and a step of decoding."""

from dataclasses import replace

import torch

from benchmarks import decode, features
from benchmarks.layers import LLAMA_8B, with_dtype
from benchmarks.measure import Row
from transfer.errors import UserError

FEATURES_TITLE = f"GPU: {features.TITLE}"
DECODE_TITLE = f"GPU: {decode.TITLE}"
SHAPE = replace(with_dtype(LLAMA_8B, torch.bfloat16), device="cuda")


def run_features() -> list[Row]:
    """Two lengths of the cache."""
    _need_gpu()
    return [features.row(SHAPE, tokens) for tokens in (32768, 131072)]


def run_decode() -> list[Row]:
    """A step and a chunk."""
    _need_gpu()
    return [decode.row(SHAPE, 32768, new) for new in (1, 512)]


def _need_gpu() -> None:
    if not torch.cuda.is_available():
        raise UserError("this machine has no CUDA GPU; run it where there is one")

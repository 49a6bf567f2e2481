"""A small LLaVA-NeXT-Video that really answers questions about videos, to ship with the package."""

from typing import TYPE_CHECKING

from transfer.pretrain.video_llava.config import VideoPretrainConfig

if TYPE_CHECKING:
    from transformers import LlavaNextVideoForConditionalGeneration

__all__ = ["VideoPretrainConfig", "pretrain_video"]


def pretrain_video(config: VideoPretrainConfig) -> "LlavaNextVideoForConditionalGeneration":
    """See `transfer.pretrain.video_llava.train`, which is loaded on use."""
    from transfer.pretrain.video_llava.train import pretrain_video

    return pretrain_video(config)

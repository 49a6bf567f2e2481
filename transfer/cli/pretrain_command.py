"""`transfer pretrain recall|decision-transformer|video-llava`."""

from collections.abc import Sequence
from typing import Any

from transfer.pretrain.decision_transformer import PretrainConfig, pretrain
from transfer.pretrain.recall import RecallPretrainConfig, pretrain_recall
from transfer.pretrain.video_llava import VideoPretrainConfig, pretrain_video

CONFIG = {
    "decision-transformer": PretrainConfig,
    "recall": RecallPretrainConfig,
    "video-llava": VideoPretrainConfig,
}
_RUN = {
    PretrainConfig: pretrain,
    RecallPretrainConfig: pretrain_recall,
    VideoPretrainConfig: pretrain_video,
}


def with_kind(words: Sequence[str]) -> list[str]:
    """The words as they are; the family has to be named."""
    return list(words)


def run(config: Any) -> int:
    """Train it."""
    _RUN[type(config)](config)
    return 0

"""Small language models that really retrieve, to ship with the package."""

from typing import TYPE_CHECKING

from transfer.pretrain.recall.config import RecallPretrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["RecallPretrainConfig", "pretrain_recall"]


def pretrain_recall(config: RecallPretrainConfig) -> "PreTrainedModel":
    """See `transfer.pretrain.recall.train`, which is loaded on use."""
    from transfer.pretrain.recall.train import pretrain_recall

    return pretrain_recall(config)

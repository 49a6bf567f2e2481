"""Decision Transformers, trained on D4RL-format data."""

from typing import TYPE_CHECKING

from transfer.pretrain.decision_transformer.config import PretrainConfig

if TYPE_CHECKING:
    from transfer.adapters.control_model import ControlModel

__all__ = ["PretrainConfig", "pretrain"]


def pretrain(config: PretrainConfig) -> "ControlModel":
    """See `transfer.pretrain.decision_transformer.train`, which is loaded on use."""
    from transfer.pretrain.decision_transformer.train import pretrain

    return pretrain(config)

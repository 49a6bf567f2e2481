"""The cache a model is given: `DynamicCache` with its full-attention layers replaced."""

from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.errors import UserError


class PrunedCache(DynamicCache):
    """Cache of one batch of sequences, pruned layer by layer while the model runs.

    Sliding-window layers keep their stock cache: they already forget. Works only inside
    `attach(model, policy)`, whose attention function does the pruning.

    Attributes:
        stores_padding: False; later calls need no mask for padding of earlier ones.

    Raises:
        UserError: the model has no full-attention layer.
    """

    stores_padding = False

    def __init__(self, config: PreTrainedConfig, pruning: Pruning) -> None:
        super().__init__(config=config)
        # Exactly DynamicLayer: its subclasses (sliding windows, quantised) store otherwise.
        self.layers = [
            PrunedLayer(pruning, index) if type(layer) is DynamicLayer else layer
            for index, layer in enumerate(self.layers)
        ]
        if not self.pruned:
            raise UserError(
                f"{config.model_type} has no full-attention layer to prune; "
                "its cache is bounded already, use the model as it is"
            )

    @property
    def pruned(self) -> list[PrunedLayer]:
        """The layers that are pruned."""
        return [layer for layer in self.layers if isinstance(layer, PrunedLayer)]

    def kept(self) -> list[list[list[int]]]:
        """Tokens held, `[layer][batch][kv_head]`."""
        return [layer.kept() for layer in self.pruned]

    def bytes(self) -> int:
        """Bytes the pruned layers hold, all their state included."""
        return sum(layer.bytes() for layer in self.pruned)

    def peak_bytes(self) -> int:
        """The most the pruned layers held, summed over layers."""
        return sum(layer.peak_bytes for layer in self.pruned)

    def full_bytes(self) -> int:
        """Bytes of keys and values the stock cache would hold after the same tokens."""
        return sum(layer.full_bytes() for layer in self.pruned)

    def policy_seconds(self) -> float:
        """Seconds spent observing, scoring and evicting."""
        return sum(layer.policy_seconds for layer in self.pruned)

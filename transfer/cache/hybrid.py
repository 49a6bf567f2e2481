"""A layer with attention, which is pruned, and beside it a recurrent state, which is left alone."""

import torch
from torch import Tensor
from transformers.cache_utils import LinearAttentionLayer

from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.cache.stock import states


class PrunedHybridLayer(LinearAttentionLayer, PrunedLayer):  # pyright: ignore[reportIncompatibleMethodOverride]
    """`PrunedLayer` whose model also writes a state into it (Falcon-H1).

    The state never grows, so it counts among the bytes of the stock cache too.
    """

    def __init__(self, pruning: Pruning, index: int, number_of_states: int = 1) -> None:
        LinearAttentionLayer.__init__(self, number_of_states)
        PrunedLayer.__init__(self, pruning, index, alone=False)

    def reset(self) -> None:
        """Forget everything, of the state the size of its batch too."""
        LinearAttentionLayer.__init__(self, self.number_of_states)
        PrunedLayer.reset(self)

    @property
    def is_compileable(self) -> bool:
        """False: what is held differs from head to head."""
        return False

    def offload(self) -> None:
        """Refused, of the state too."""
        PrunedLayer.offload(self)

    def prefetch(self) -> None:
        """Refused."""
        PrunedLayer.prefetch(self)

    @torch.no_grad()
    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow beams."""
        LinearAttentionLayer.reorder_cache(self, beam_idx)  # pyright: ignore[reportArgumentType]
        PrunedLayer.reorder_cache(self, beam_idx)

    def bytes(self) -> int:
        """Bytes of everything held, the state included."""
        return PrunedLayer.bytes(self) + self._state_bytes()

    def full_bytes(self) -> int:
        """Bytes the stock cache would hold after the same tokens, the state included."""
        return PrunedLayer.full_bytes(self) + self._state_bytes()

    def _state_bytes(self) -> int:
        return sum(state.untyped_storage().nbytes() for state in states(self))

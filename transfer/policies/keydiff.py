"""Keys unlike the others stay (KeyDiff, arXiv 2504.15364)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow
from transfer.keys import unlikeness


@dataclass(frozen=True)
class KeyDiff(Policy):
    """Keeps the tokens whose keys point away from the mean direction of all keys of their head.

    The score is `transfer.keys.unlikeness` among the tokens in the cache. It asks for no attention.
    As in the paper, which prunes block after block, the anchor is that of what is left at each
    update.
    """

    name: ClassVar[str] = "keydiff"

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """The negative cosine to the anchor."""
        return unlikeness(window.keys), state

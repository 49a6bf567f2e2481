"""A rule with a setting: `transfer eval language --model llama-recall --policy example_rule`."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer import Policy
from transfer.cache.window import AttentionWindow


@dataclass(frozen=True)
class ExampleRule(Policy):
    """Keeps the tokens at every n-th position, and then the newest.

    Args:
        stride: n.
    """

    stride: int = 4

    name: ClassVar[str] = "example_rule"

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """Positions, those to keep above all others."""
        position = window.positions.to(state.dtype)
        return position + 1e6 * (position % self.stride == 0), state

"""Heavy hitters of loud values, and a recent window (VATP, arXiv 2406.12335)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer.arguments import check_fields
from transfer.cache.window import AttentionWindow
from transfer.policies.h2o import H2O
from transfer.policies.sinks import check_sinks, sinks_first


@dataclass(frozen=True)
class VATP(H2O):
    """Keeps what `h2o` keeps, its attention sums times the size of what they bring.

    The score of token i is `A_i |v_i|_1`, the sum of the attention it got times the L1 norm of its
    value ("H2O w/ VATP" of the paper). Values of sinks are small, so they are kept by their place.

    Args:
        sinks: first tokens that always stay, within the budget (the paper: 20, of thousands).
    """

    sinks: int = 4

    name: ClassVar[str] = "vatp"

    def __post_init__(self) -> None:
        check_fields(self)
        check_sinks(self.name, self.sinks)

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 1"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 1"]]:
        """Those of `h2o`, the sinks before all others."""
        scores, state = super().score(window, state)
        return sinks_first(scores, window, self.sinks), state

    def weigh(
        self, sums: Float[Tensor, "batch kv_heads tokens"], window: AttentionWindow
    ) -> Float[Tensor, "batch kv_heads tokens"]:
        """The attention sums times the L1 norms of the values."""
        return sums * window.values.norm(p=1, dim=-1)

"""H2O without its bias for old tokens: attention per query instead of its sum."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer.cache.window import AttentionWindow
from transfer.policies.h2o import H2O


@dataclass(frozen=True)
class H2OAge(H2O):
    """Keeps the tokens with the largest attention per query that could see them."""

    name: ClassVar[str] = "h2o_age"

    def weigh(
        self, sums: Float[Tensor, "batch kv_heads tokens"], window: AttentionWindow
    ) -> Float[Tensor, "batch kv_heads tokens"]:
        """The mean attention over the queries since the token came."""
        return sums / (window.age + 1)

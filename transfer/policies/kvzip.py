"""What the model looks at when it repeats the text (KVzip, arXiv 2505.23416). A ceiling.

A text is read, and then read again behind the request to repeat it; a token is worth the most
attention that it gets then. That takes the whole cache, twice the reading, and a text that is known
to have ended, so it is no rule for a cache that has to stay small, and not in the registry:
`transfer eval language` alone has a model repeat a text (`transfer.evaluation.repeating`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer.arguments import check_fields
from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError


@dataclass(frozen=True)
class KVzip(Policy):
    """Asks for a repetition; keeps the tokens that it looks at, pruned once, at the text's end.

    Args:
        sinks: first tokens that come before all others, within the budget.
        chunk: tokens repeated at a time.
    """

    sinks: int = 4
    chunk: int = 2048

    name: ClassVar[str] = "kvzip"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.sinks < 0:
            raise UserError(f"kvzip cannot keep {self.sinks} sinks; use 0 or more")
        if self.chunk < 1:
            raise UserError(f"kvzip cannot repeat {self.chunk} tokens at a time; use 1 or more")

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """Nothing: only `Repeated` knows.

        Raises:
            UserError: always.
        """
        raise UserError(
            "policy kvzip has the model repeat a text, which only transfer eval language does, "
            "where there is one before the question; use another policy"
        )


@dataclass(frozen=True, eq=False)
class Repeated(Policy):
    """What came of the repetition of one text, for the update at its end.

    Args:
        scores: of each layer `[1, kv_heads, tokens]`, all tokens of the text.
    """

    scores: Mapping[int, Float[Tensor, "1 kv_heads tokens"]]

    name: ClassVar[str] = KVzip.name

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """What was found for these tokens."""
        return self.scores[window.layer], state

"""What a NAMM's parameter vector means. Importing this does not wait for torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from transfer.errors import UserError
from transfer.plugins import FEATURES, SCORERS

#: The shipped NAMM that is meant when none is named.
DEFAULT_NAMM = "recall"


@dataclass(frozen=True)
class NAMMConfig:
    """What a parameter vector means.

    Args:
        features: `spec` standardises the spectrogram's magnitudes, `log` their logarithms; or a
            kind from outside, see `transfer.namm.features`.
        scorer: `bam`, backward attention memory, or `mlp`, no attention between tokens; or a kind
            from outside, see `transfer.namm.scorers`.
        hidden: width of the scorer.
        bias: whether the scorer's inner layers have biases (the score always has one).
        gamma: decay of the features a query.

    Raises:
        UserError: a field has an unknown name or a value out of range.
    """

    features: str = "spec"
    scorer: str = "bam"
    hidden: int = 32
    bias: bool = True
    gamma: float = 0.99

    def __post_init__(self) -> None:
        FEATURES.get(self.features)
        SCORERS.get(self.scorer)
        if not 1 <= self.hidden <= 4096:
            raise UserError(f"NAMM hidden width {self.hidden}: use a whole number from 1 to 4096")
        if not 0 < self.gamma < 1:
            raise UserError(f"NAMM gamma {self.gamma}: use a number between 0 and 1, as 0.99")

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of the pieces of the flat vector, in order."""
        from transfer.namm.recency import RECENCY

        width = RECENCY + FEATURES.get(self.features).width
        return SCORERS.get(self.scorer).shapes(width, self.hidden, self.bias)

    @property
    def size(self) -> int:
        """Length of the flat vector: 4172 for the default, the published NAMM."""
        return sum(map(prod, self.shapes.values()))

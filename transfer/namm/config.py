"""What a NAMM's parameter vector means. Importing this does not wait for torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from transfer.arguments import check_fields
from transfer.errors import UserError
from transfer.plugins import SCORERS

#: The shipped NAMM that is meant when none is named.
DEFAULT_NAMM = "recall"
#: The most that `hidden` may be.
WIDEST = 4096


@dataclass(frozen=True)
class NAMMConfig:
    """What a parameter vector means.

    Args:
        features: `spec` standardises the spectrogram's magnitudes, `log` their logarithms; or
            another kind, some joined with `+`, or one from outside: see `transfer.namm.features`.
        scorer: `bam`, backward attention memory, `mlp`, no attention between tokens, or `linear`,
            no hidden layer either; or a kind from outside, see `transfer.namm.scorers`.
        hidden: width of the scorer.
        bias: whether the scorer's inner layers have biases (the score always has one).
        gamma: decay of the features a query.

    Raises:
        UserError: a field is of the wrong type, has an unknown name or a value out of range.
    """

    features: str = "spec"
    scorer: str = "bam"
    hidden: int = 32
    bias: bool = True
    gamma: float = 0.99

    def __post_init__(self) -> None:
        from transfer.namm.features.joined import get_feature

        check_fields(self)
        get_feature(self.features)
        SCORERS.get(self.scorer)
        if not 1 <= self.hidden <= WIDEST:
            raise UserError(
                f"NAMM hidden width {self.hidden}: use a whole number from 1 to {WIDEST}"
            )
        if not 0 < self.gamma < 1:
            raise UserError(f"NAMM gamma {self.gamma}: use a number between 0 and 1, as 0.99")

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of the pieces of the flat vector, in order."""
        from transfer.namm.features.joined import get_feature
        from transfer.namm.recency import RECENCY

        width = RECENCY + get_feature(self.features).width
        return SCORERS.get(self.scorer).shapes(width, self.hidden, self.bias)

    @property
    def size(self) -> int:
        """Length of the flat vector: 4172 for the default, the published NAMM."""
        return sum(map(prod, self.shapes.values()))

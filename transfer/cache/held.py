"""How much a sequence holds in a layer, averaged over its tokens: what is compared at equal memory.

What is held at the end tells little: a fraction of the tokens seen and a fixed number may end at
the same, and hold something else on the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Held:
    """What one sequence has held in one layer, summed over the tokens that came.

    A token counts what is there while it attends: itself, and what has not left before it.

    Attributes:
        tokens: how many came.
        token_steps: at each of them, tokens held by a head (mean over heads), summed.
        byte_steps: likewise bytes, of a batch its share.
        peak: the most tokens held by a head (mean over heads).
    """

    tokens: int = 0
    token_steps: float = 0.0
    byte_steps: float = 0.0
    peak: float = 0.0

    def followed_by(
        self,
        new: int,
        before: int | float,
        bytes_before: int | float,
        bytes_after: int | float,
    ) -> "Held":
        """With `new` tokens more, between which none leaves and bytes grow evenly.

        Args:
            new: tokens.
            before: tokens a head held before the first of them.
            bytes_before, bytes_after: before the first and after the last of them.
        """
        if not new:
            return self
        half = (new + 1) / 2
        return Held(
            self.tokens + new,
            self.token_steps + new * (before + half),
            self.byte_steps + new * bytes_before + (bytes_after - bytes_before) * half,
            max(self.peak, float(before + new)),
        )

    @property
    def mean(self) -> float:
        """Tokens of a head, averaged over the tokens that came; 0 before the first."""
        return self.token_steps / max(self.tokens, 1)

    @property
    def mean_bytes(self) -> float:
        """Bytes, likewise."""
        return self.byte_steps / max(self.tokens, 1)


def over_layers(layers: Sequence[Held]) -> Held:
    """What a sequence has held in all layers: tokens of a head on average, each layer at its own
    peak, and the sum of their bytes.
    """
    return Held(
        layers[0].tokens,
        fmean(layer.token_steps for layer in layers),
        sum(layer.byte_steps for layer in layers),
        fmean(layer.peak for layer in layers),
    )

"""`relative` and `relative_slow`: the attention of a token beside that of its head's other tokens.

Neither the scale of a model's attention nor the length of a cache shows in them.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.namm.features.among import mean_among
from transfer.namm.features.base import Tokens
from transfer.namm.features.spec import Spec, slower
from transfer.namm.spectrogram import BINS, ema_of_ones

# Of the head's mean.
_FLOOR = 1e-4
_SMALLEST_STD = 1e-2


class Relative(Spec):
    """17 logarithms, each minus its mean over the head's tokens, over their standard deviation.

    A magnitude is divided first by what attention of 1 would have come to in the token's own time:
    the EMA of a token that came late has seen little yet, and says the same as an old one's.
    """

    slow = False

    def read(self, tokens: Tokens) -> Float[Tensor, "rows tokens 17"]:
        """(v - mean) / max(std, 0.01), v = log(magnitude a query / its mean + 1e-4)."""
        gamma = slower(tokens.gamma) if self.slow else tokens.gamma
        state = tokens.state[..., BINS:] if self.slow else tokens.state[..., :BINS]
        received = state / ema_of_ones(tokens.age, gamma).to(state.dtype)[..., None]
        smallest = torch.finfo(state.dtype).tiny
        scale = mean_among(received, tokens.valid).clamp(min=smallest)
        values = (received / scale + _FLOOR).log()
        values = values - mean_among(values, tokens.valid)
        deviation = mean_among(values.square(), tokens.valid).sqrt()
        return values / deviation.clamp(min=_SMALLEST_STD)


class RelativeSlow(Relative):
    """The same under the second decay."""

    state_size = 2 * BINS
    byte_state = False
    slow = True


RELATIVE = Relative()
RELATIVE_SLOW = RelativeSlow()

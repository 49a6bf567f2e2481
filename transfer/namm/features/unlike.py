"""`unlike`: how a key differs from the others, with which a NAMM reads more than attention."""

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.namm.features.among import mean_among
from transfer.namm.features.base import Tokens
from transfer.namm.features.place import Stateless

_SMALLEST = 1e-6


class Unlike(Stateless):
    """What KeyDiff (arXiv 2504.15364) scores by, as it is and measured by its spread in the head.

    Against a head's mean; `transfer.keys.unlikeness` has the formula.
    """

    width = 2
    reads_unlike = True

    def read(self, tokens: Tokens) -> Float[Tensor, "rows tokens 2"]:
        """The difference d from the head's mean, and d / sqrt(mean d^2)."""
        assert tokens.unlike is not None
        values = tokens.unlike.to(tokens.state.dtype)[..., None]
        apart = values - mean_among(values, tokens.valid)
        spread = mean_among(apart.square(), tokens.valid).sqrt()
        return torch.cat([apart, apart / spread.clamp(min=_SMALLEST)], -1)


UNLIKE = Unlike()

"""`rates`: the attention that a token received a query, lately and since it came.

Two numbers a token where the spectrogram has 17, and no transform: what a sum over all queries
(H2O, arXiv 2306.14048) and one over recent ones say together.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.namm.features.among import mean_among
from transfer.namm.features.base import Attention, Feature, Tokens

# Of an attention a query; and of the head's mean.
_FLOOR, _RELATIVE_FLOOR = 1e-6, 1e-4
_SMALLEST_STD = 1e-2


class Rates(Feature):
    """Attention summed over all queries, and with the NAMM's decay; read a query, twice.

    As a logarithm, and as one beside those of the head's other tokens, without a scale.
    """

    state_size = 2
    width = 4

    def accumulate(
        self, window: Attention, state: Float[Tensor, "batch kv_heads tokens 2"], gamma: float
    ) -> Float[Tensor, "batch kv_heads tokens 2"]:
        """Both sums, block by block."""
        state[..., 1] *= gamma**window.queries
        ages = torch.arange(window.queries - 1, -1, -1, device=state.device, dtype=state.dtype)
        weights = torch.stack([torch.ones_like(ages), gamma**ages], -1)
        return window.fold(lambda block: block.mT @ weights.to(block.dtype), state)

    def read(self, tokens: Tokens) -> Float[Tensor, "rows tokens 4"]:
        """log(rate + 1e-6); and log(rate / its mean + 1e-4), minus its mean, over its deviation.

        A rate is a sum over what attention of 1 would have come to in the token's own time.
        """
        queries = (tokens.age + 1).double()
        lately = (1 - tokens.gamma**queries) / (1 - tokens.gamma)
        rates = tokens.state / torch.stack([queries, lately], -1).to(tokens.state.dtype)
        smallest = torch.finfo(rates.dtype).tiny
        among = rates / mean_among(rates, tokens.valid).clamp(min=smallest)
        values = (among + _RELATIVE_FLOOR).log()
        values = values - mean_among(values, tokens.valid)
        deviation = mean_among(values.square(), tokens.valid).sqrt()
        relative = values / deviation.clamp(min=_SMALLEST_STD)
        return torch.cat([(rates + _FLOOR).log(), relative], -1)


RATES = Rates()

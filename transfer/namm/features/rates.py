"""`rates`: the attention that a token received a query: since it came, lately, and by its peaks.

Three numbers a token where the spectrogram has 17, and no transform: what a sum over all queries
says (H2O, arXiv 2306.14048), one over recent ones, and one of squares.
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
    """Attention summed over all queries, with the NAMM's decay, and squared over all queries.

    Each is read a query, as a logarithm and as one beside those of the head's other tokens.
    """

    state_size = 3
    width = 6

    def accumulate(
        self, window: Attention, state: Float[Tensor, "batch kv_heads tokens 3"], gamma: float
    ) -> Float[Tensor, "batch kv_heads tokens 3"]:
        """The sums, block by block."""
        state[..., 1] *= gamma**window.queries
        ages = torch.arange(window.queries - 1, -1, -1, device=state.device, dtype=state.dtype)
        weights = torch.stack([torch.ones_like(ages), gamma**ages], -1)

        def sums(block: Tensor) -> Tensor:
            plain = block.mT @ weights.to(block.dtype)
            return torch.cat([plain, block.square().sum(1)[..., None]], -1)

        return window.fold(sums, state)

    def read(self, tokens: Tokens) -> Float[Tensor, "rows tokens 6"]:
        """log(rate + 1e-6); and log(rate / its mean + 1e-4), minus its mean, over its deviation.

        A rate is a sum over what attention of 1 would have come to in the token's own time; of
        squares the root of that.
        """
        queries = (tokens.age + 1).double()
        lately = (1 - tokens.gamma**queries) / (1 - tokens.gamma)
        ones = torch.stack([queries, lately, queries], -1)
        rates = tokens.state / ones.to(tokens.state.dtype)
        rates = torch.cat([rates[..., :2], rates[..., 2:].sqrt()], -1)
        smallest = torch.finfo(rates.dtype).tiny
        among = rates / mean_among(rates, tokens.valid).clamp(min=smallest)
        values = (among + _RELATIVE_FLOOR).log()
        values = values - mean_among(values, tokens.valid)
        deviation = mean_among(values.square(), tokens.valid).sqrt()
        relative = values / deviation.clamp(min=_SMALLEST_STD)
        return torch.cat([(rates + _FLOOR).log(), relative], -1)


RATES = Rates()

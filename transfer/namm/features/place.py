"""`ages`, `place` and `sink`: where a token stands in its sequence and in what is left of it."""

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.namm.features.base import Attention, Feature, Tokens

#: First tokens of a sequence that most models use as sinks of attention.
SINKS = 4


class Stateless(Feature):
    """Keeps nothing of the attention."""

    state_size = 0
    half_state = True
    byte_state = True

    def accumulate(
        self, window: Attention, state: Float[Tensor, "batch kv_heads tokens 0"], gamma: float
    ) -> Float[Tensor, "batch kv_heads tokens 0"]:
        """Nothing."""
        return state


class Ages(Stateless):
    """The age as a share of the tokens seen, its logarithm, and that minus that of all seen."""

    width = 3

    def read(self, tokens: Tokens) -> Float[Tensor, "rows tokens 3"]:
        """age / seen, log(1 + age), log((1 + age) / (1 + seen))."""
        age = tokens.age.to(tokens.state.dtype)
        seen = age + tokens.index + 1
        log = age.log1p()
        return torch.stack([age / seen, log, log - seen.log1p()], -1)


class Place(Stateless):
    """How many newer tokens the head still holds, as a share of all it holds and its logarithm."""

    width = 2

    def read(self, tokens: Tokens) -> Float[Tensor, "rows tokens 2"]:
        """newer / held, log(1 + newer)."""
        count = tokens.valid.shape[1]
        newer = torch.arange(count - 1, -1, -1, device=tokens.valid.device)
        newer = newer.to(tokens.state.dtype).expand(tokens.valid.shape)
        held = tokens.valid.sum(1, keepdim=True).clamp(min=1)
        return torch.stack([newer / held, newer.log1p()], -1)


class Sink(Stateless):
    """Whether a token is one of the first four of its sequence."""

    width = 1

    def read(self, tokens: Tokens) -> Float[Tensor, "rows tokens 1"]:
        """1 or 0."""
        return (tokens.index < SINKS).to(tokens.state.dtype)[..., None]


AGES = Ages()
PLACE = Place()
SINK = Sink()

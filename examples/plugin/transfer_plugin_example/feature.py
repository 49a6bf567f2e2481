"""What a NAMM reads of a token: `NAMMConfig(features="example_feature")`."""

from jaxtyping import Float
from torch import Tensor

from transfer.namm.features import Attention, Feature


class Received(Feature):
    """The logarithm of the attention that a token received, the old of which fades."""

    state_size = 1
    width = 1

    def accumulate(
        self, window: Attention, state: Float[Tensor, "batch kv_heads tokens 1"], gamma: float
    ) -> Float[Tensor, "batch kv_heads tokens 1"]:
        """A fold goes over the attention of the new queries in blocks: no matrix is ever held."""
        faded = state[..., 0] * gamma**window.queries
        return window.fold(lambda block: block.sum(1), faded)[..., None]

    def transform(self, state: Float[Tensor, "*tokens 1"]) -> Float[Tensor, "*tokens 1"]:
        """What is normalised and scored."""
        return (state + 1e-4).log()


RECEIVED = Received()

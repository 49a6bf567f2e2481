"""`norms`: lengths of keys and values, with which a NAMM reads more than attention."""

from jaxtyping import Float
from torch import Tensor

from transfer.namm.features.among import mean_among
from transfer.namm.features.base import Tokens
from transfer.namm.features.place import Stateless

_SMALLEST = 1e-6


class Norms(Stateless):
    """The logarithms of a token's key norm and value norm, minus their means over its head."""

    width = 2
    reads_norms = True

    def read(self, tokens: Tokens) -> Float[Tensor, "rows tokens 2"]:
        """log(norm / the geometric mean of the head's)."""
        assert tokens.norms is not None
        values = tokens.norms.to(tokens.state.dtype).clamp(min=_SMALLEST).log()
        return values - mean_among(values, tokens.valid)


NORMS = Norms()

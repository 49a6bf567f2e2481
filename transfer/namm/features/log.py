"""`log`: the logarithms of the spectrogram's magnitudes."""

from jaxtyping import Float
from torch import Tensor

from transfer.namm.features.spec import Spec

_FLOOR = 1e-4


class Log(Spec):
    """The same state as `Spec`, read as log(magnitude + 1e-4)."""

    def transform(self, state: Float[Tensor, "*tokens 17"]) -> Float[Tensor, "*tokens 17"]:
        """The logarithms."""
        return (state + _FLOOR).log_()


LOG = Log()

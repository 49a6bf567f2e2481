"""`log` and `slow`: the logarithms of the spectrogram's magnitudes, under either decay."""

from jaxtyping import Float
from torch import Tensor

from transfer.namm.features.spec import Spec
from transfer.namm.spectrogram import BINS

_FLOOR = 1e-4


class Log(Spec):
    """The same state as `Spec`, read as log(magnitude + 1e-4)."""

    def transform(self, state: Float[Tensor, "*tokens size"]) -> Float[Tensor, "*tokens 17"]:
        """The logarithms."""
        return (state[..., :BINS] + _FLOOR).log_()


class Slow(Spec):
    """The second decay alone, read likewise."""

    state_size = 2 * BINS
    # What hardly fades would not fade at all.
    byte_state = False

    def transform(self, state: Float[Tensor, "*tokens 34"]) -> Float[Tensor, "*tokens 17"]:
        """The logarithms."""
        return (state[..., BINS:] + _FLOOR).log_()


LOG = Log()
SLOW = Slow()

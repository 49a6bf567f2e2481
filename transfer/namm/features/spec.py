"""`spec`, the paper's: an EMA of the magnitude spectrogram of a token's attention (section 3.1)."""

from jaxtyping import Float
from torch import Tensor

from transfer.namm.features.base import Attention, Feature
from transfer.namm.spectrogram import BINS, HOP, decay, ema_spectrogram


def slower(gamma: float) -> float:
    """The second decay: ten times as many queries count, 0.999 for 0.99."""
    return 1 - (1 - gamma) / 10


class Spec(Feature):
    """17 magnitudes, of windows of 32 queries, 16 apart.

    A kind with twice the state keeps them under a second decay too, see `slower`.
    """

    state_size = BINS
    width = BINS
    # The last half of a frame is the first of the next.
    looks_back = HOP
    multiple_of = HOP
    # The largest value is that of a token with all attention, 16.
    half_state = True
    byte_state = True

    @property
    def family(self) -> str:
        """All that read the spectrogram."""
        return "spectrogram"

    def accumulate(
        self, window: Attention, state: Float[Tensor, "batch kv_heads tokens size"], gamma: float
    ) -> Float[Tensor, "batch kv_heads tokens size"]:
        """On a GPU in one launch a decay, elsewhere block by block."""
        gammas = (gamma, slower(gamma))[: self.state_size // BINS]
        for part, each in zip(state.split(BINS, -1), gammas):
            part.mul_(decay(each, window.queries))
        ragged = window.ragged(HOP)
        if ragged is None:
            return window.fold(lambda block: ema_spectrogram(block, *gammas), state, HOP)
        from transfer.namm.spectrogram_kernel import window_spectrogram

        for part, each in zip(state.split(BINS, -1), gammas):
            part.add_(window_spectrogram(ragged, each).view(part.shape))
        return state

    def transform(self, state: Float[Tensor, "*tokens size"]) -> Float[Tensor, "*tokens 17"]:
        """The magnitudes under the first decay."""
        return state[..., :BINS]


SPEC = Spec()

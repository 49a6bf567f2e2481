"""`spec`, the paper's: an EMA of the magnitude spectrogram of a token's attention (section 3.1)."""

from jaxtyping import Float
from torch import Tensor

from transfer.namm.features.base import Attention, Feature
from transfer.namm.spectrogram import BINS, HOP, decay, ema_spectrogram


class Spec(Feature):
    """17 magnitudes, of windows of 32 queries, 16 apart."""

    state_size = BINS
    width = BINS
    # The last half of a frame is the first of the next.
    looks_back = HOP
    multiple_of = HOP
    # The largest value is that of a token with all attention, 16.
    half_state = True

    def accumulate(
        self, window: Attention, state: Float[Tensor, "batch kv_heads tokens 17"], gamma: float
    ) -> Float[Tensor, "batch kv_heads tokens 17"]:
        """On a GPU in one launch, elsewhere block by block."""
        state.mul_(decay(gamma, window.queries))
        ragged = window.ragged(HOP)
        if ragged is None:
            return window.fold(lambda block: ema_spectrogram(block, gamma), state, HOP)
        from transfer.namm.spectrogram_kernel import window_spectrogram

        return state.add_(window_spectrogram(ragged, gamma).view(state.shape))


SPEC = Spec()

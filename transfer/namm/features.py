"""What the scorer sees of a token: its age and its normalised spectrogram.

The running statistics behind the normalisation live here too; they are measured once, at full
cache, and then travel with the NAMM.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfer.namm.spectrogram import BINS

FEATURE_KINDS = ("spec", "log")

RECENCY = 8
WIDTH = RECENCY + BINS
_LONGEST_PERIOD = 50000
_LOG_FLOOR = 1e-4
_SMALLEST_STD = 1e-7


def recency_embedding(
    age: Int[Tensor, "*tokens"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*tokens 8"]:
    """Four sines, then four cosines of the age in tokens, of any length (section 3.1).

    Computed in float64: at an age of 100 000 float32 angles would be off in the third decimal.
    """
    steps = torch.arange(RECENCY // 2, dtype=torch.float64, device=age.device)
    angle = age[..., None] * _LONGEST_PERIOD ** (-2 * steps / RECENCY)
    return torch.cat([angle.sin(), angle.cos()], -1).to(dtype)


def transformed(spectrogram: Float[Tensor, "*tokens 17"], kind: str) -> Float[Tensor, "*tokens 17"]:
    """The magnitudes themselves (`spec`) or log(magnitude + 1e-4) (`log`)."""
    return (spectrogram + _LOG_FLOOR).log_() if kind == "log" else spectrogram


def normalised(
    values: Float[Tensor, "*tokens 17"], mean: Float[Tensor, "17"], std: Float[Tensor, "17"]
) -> Float[Tensor, "*tokens 17"]:
    """(values - mean) / max(std, 1e-7), bin by bin."""
    return (values - mean).div_(std.clamp(min=_SMALLEST_STD))


class FeatureStatistics:
    """Mean and population variance of transformed features, merged batch by batch in float64.

    A token that stays cached for k updates counts k times in every layer and head, as in the
    original implementation.

    Args:
        kind: which transform the features go through (`NAMMConfig.features`).
    """

    def __init__(self, kind: str = "spec") -> None:
        self.kind = kind
        self.count = 0
        self.mean = torch.zeros(BINS, dtype=torch.float64)
        self.var = torch.zeros(BINS, dtype=torch.float64)

    def add(self, spectrogram: Float[Tensor, "tokens 17"]) -> None:
        """Merge the features of the tokens of one layer at one update; no padding among them."""
        values = transformed(spectrogram.to("cpu", torch.float64), self.kind)
        batch_var, batch_mean = torch.var_mean(values, dim=0, correction=0)
        self.count += len(values)
        share = len(values) / self.count
        shift = batch_mean - self.mean
        self.mean = self.mean + share * shift
        self.var = share * batch_var + (1 - share) * self.var + share * (1 - share) * shift**2

    @property
    def std(self) -> Float[Tensor, "17"]:
        """Population standard deviation."""
        return self.var.sqrt()

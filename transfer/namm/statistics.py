"""Mean and deviation of features, and the normalisation by them.

They are measured once, at full cache, and then travel with the NAMM.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_SMALLEST_STD = 1e-7


def normalised(
    values: Float[Tensor, "*tokens width"],
    mean: Float[Tensor, " width"],
    std: Float[Tensor, " width"],
) -> Float[Tensor, "*tokens width"]:
    """(values - mean) / max(std, 1e-7), number by number."""
    return (values - mean).div_(std.clamp(min=_SMALLEST_STD))


class FeatureStatistics:
    """Mean and population variance of what is read, merged batch by batch in float64.

    A token that stays cached for k updates counts k times in every layer and head, as in the
    original implementation.

    Args:
        width: numbers that are read of a token.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.var = torch.zeros(width, dtype=torch.float64)

    def add(self, values: Float[Tensor, "tokens width"]) -> None:
        """Merge what is read of the tokens of one layer at one update; no padding among them."""
        values = values.to("cpu", torch.float64)
        batch_var, batch_mean = torch.var_mean(values, dim=0, correction=0)
        self.count += len(values)
        share = len(values) / self.count
        shift = batch_mean - self.mean
        self.mean = self.mean + share * shift
        self.var = share * batch_var + (1 - share) * self.var + share * (1 - share) * shift**2

    @property
    def std(self) -> Float[Tensor, " width"]:
        """Population standard deviation."""
        return self.var.sqrt()

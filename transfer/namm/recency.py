"""The embedding of a token's age, which every scorer reads before the features."""

from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

RECENCY = 8
_LONGEST_PERIOD = 50000


def recency_embedding(
    age: Int[Tensor, "*tokens"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*tokens 8"]:
    """Four sines, then four cosines of the age in tokens, of any length (section 3.1).

    Computed in float64: at an age of 100 000 float32 angles would be off in the third decimal.
    """
    angle = age[..., None] * _frequencies(age.device)
    return torch.cat([angle.sin(), angle.cos()], -1).to(dtype)


@cache
def _frequencies(device: torch.device) -> Float[Tensor, "4"]:
    steps = torch.arange(RECENCY // 2, dtype=torch.float64, device=device)
    return _LONGEST_PERIOD ** (-2 * steps / RECENCY)

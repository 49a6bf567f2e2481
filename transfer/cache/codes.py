"""How the numbers of a policy's state are stored: as they are, in half precision, or as bytes.

A byte holds a logarithm: numbers from 16 down to 2e-8 in steps of 8.4 %, and 0 for what is less. A
step is what 8 queries let fade at a decay of 0.99 a query, so that fading loses nothing to
rounding, however few of them come at a time.
"""

import math

import torch
from jaxtyping import Shaped
from torch import Tensor

#: The logarithm to base 2 of the largest number, its code, and the steps.
_LARGEST, _MOST, _STEP = 4, 255, -8 * math.log2(0.99)
#: The slowest decay a query that fades bytes: 16 queries, the fewest at a time, are a step.
SLOWEST = 0.99**0.5


def encoded(state: Shaped[Tensor, "*tokens size"], dtype: torch.dtype) -> Tensor:
    """The numbers as they are stored.

    Args:
        state: for bytes, from 0 to 16.
        dtype: uint8 for bytes.
    """
    if dtype != torch.uint8:
        return state.to(dtype)
    steps = state.log2().sub_(_LARGEST).div_(_STEP).round_().add_(_MOST)
    return steps.clamp_(0, _MOST).to(dtype)


def decoded(stored: Shaped[Tensor, "*tokens size"], dtype: torch.dtype) -> Tensor:
    """The numbers that are stored; those of bytes within 4.1 %.

    Args:
        stored: by `encoded`.
        dtype: to compute with.
    """
    if stored.dtype != torch.uint8:
        return stored.to(dtype)
    numbers = stored.to(dtype).sub_(_MOST).mul_(_STEP).add_(_LARGEST).exp2_()
    return numbers.masked_fill_(stored == 0, 0)

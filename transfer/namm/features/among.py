"""Numbers of a token as they stand among those of its head; padding does not count."""

from jaxtyping import Bool, Float
from torch import Tensor


def mean_among(
    values: Float[Tensor, "rows tokens width"], valid: Bool[Tensor, "rows tokens"]
) -> Float[Tensor, "rows 1 width"]:
    """The mean over a head's tokens; 0 where it has none."""
    total = values.masked_fill(~valid[..., None], 0).sum(1, keepdim=True)
    return total / valid.sum(1).clamp(min=1)[:, None, None]

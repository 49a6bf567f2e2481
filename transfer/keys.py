"""How the keys of a head differ from each other: a rule and a NAMM's feature read it."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize


def unlikeness(
    keys: Float[Tensor, "batch kv_heads tokens dim"],
) -> Float[Tensor, "batch kv_heads tokens"]:
    """The negative cosine of each key to where the keys of its head point on average.

    `-cos(k_i, a)` with the anchor `a = mean_j k_j / |k_j|`, by KeyDiff (arXiv 2504.15364).

    Args:
        keys: positions in them, padding 0.
    """
    # A sum points where the mean does, and padding adds nothing to it.
    anchor = normalize(keys, dim=-1).sum(2, keepdim=True)
    return -cosine_similarity(keys, anchor, dim=-1)

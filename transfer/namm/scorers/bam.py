"""`bam`, backward attention memory (section 3.2): a token is scored against what came after it.

Each token attends to itself and to what came after it, so a token can learn that something newer
makes it redundant. With the order reversed this is ordinary causal attention, for which the fused
kernels need no mask.
"""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from transfer.namm.scorers.base import Scorer, Shapes, affine


class BackwardAttention(Scorer):
    """The paper's scorer: self-attention, a gate and a shift, and a linear score."""

    inner: ClassVar[tuple[str, ...]] = ("qkv",)

    def shapes(self, width: int, hidden: int, bias: bool) -> Shapes:
        """The pieces as the original implementation lays them out.

        Weights are [inputs, outputs]. `bias` is that of the attention's two projections; the score
        always has one.
        """
        shapes: dict[str, tuple[int, ...]] = {
            "qkv": (width, 3 * hidden),
            "qkv_bias": (3 * hidden,),
            "out": (hidden, 2 * width),
            "out_bias": (2 * width,),
            "score": (width, 1),
            "score_bias": (1,),
        }
        if not bias:
            del shapes["qkv_bias"], shapes["out_bias"]
        return shapes

    def scores(
        self,
        features: Float[Tensor, "population sequences tokens width"],
        parameters: Mapping[str, Tensor],
    ) -> Float[Tensor, "population sequences tokens"]:
        """score = (x (1 + gate) + shift) w + b; attention gives each token a shift and a gate."""
        shift, gate = backward_attention(features, parameters).chunk(2, -1)
        gated = (gate + 1).mul_(features).add_(shift)
        return affine(gated, parameters["score"], parameters["score_bias"]).squeeze(-1)


def backward_attention(
    features: Float[Tensor, "population sequences tokens width"], parameters: Mapping[str, Tensor]
) -> Float[Tensor, "population sequences tokens 2*width"]:
    """Single-head self-attention in which token i sees the tokens j >= i, newest token last."""
    newest_first = features.flip(-2)
    qkv = affine(newest_first, parameters["qkv"], parameters.get("qkv_bias"))
    query, key, value = qkv.chunk(3, -1)
    mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
    return affine(mixed, parameters["out"], parameters.get("out_bias")).flip(-2)


BAM = BackwardAttention()

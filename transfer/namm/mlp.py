"""The scorer without attention (paper's ablation): each token is judged by its own features."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from transfer.namm.parameters import Shapes, affine


def mlp_shapes(width: int, hidden: int, bias: bool) -> Shapes:
    """The pieces of the flat vector: hidden [width, hidden], hidden bias, score [hidden, 1], bias.

    `bias` is that of the hidden layer; the score always has one.
    """
    shapes: dict[str, tuple[int, ...]] = {"hidden": (width, hidden)}
    if bias:
        shapes["hidden_bias"] = (hidden,)
    return shapes | {"score": (hidden, 1), "score_bias": (1,)}


def mlp_scores(
    features: Float[Tensor, "population sequences tokens width"], parameters: Mapping[str, Tensor]
) -> Float[Tensor, "population sequences tokens"]:
    """score = relu(x W + b) w + b'."""
    hidden = affine(features, parameters["hidden"], parameters.get("hidden_bias")).relu_()
    return affine(hidden, parameters["score"], parameters["score_bias"]).squeeze(-1)

"""`mlp`, no attention between tokens (the paper's ablation): each is judged by its own features."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from transfer.namm.scorers.base import Scorer, Shapes, affine


class Perceptron(Scorer):
    """One hidden layer of rectified units."""

    inner: ClassVar[tuple[str, ...]] = ("hidden",)

    def shapes(self, width: int, hidden: int, bias: bool) -> Shapes:
        """Hidden [width, hidden], hidden bias, score [hidden, 1], its bias.

        `bias` is that of the hidden layer; the score always has one.
        """
        shapes: dict[str, tuple[int, ...]] = {"hidden": (width, hidden)}
        if bias:
            shapes["hidden_bias"] = (hidden,)
        return shapes | {"score": (hidden, 1), "score_bias": (1,)}

    def scores(
        self,
        features: Float[Tensor, "population sequences tokens width"],
        parameters: Mapping[str, Tensor],
    ) -> Float[Tensor, "population sequences tokens"]:
        """score = relu(x W + b) w + b'."""
        hidden = affine(features, parameters["hidden"], parameters.get("hidden_bias")).relu_()
        return affine(hidden, parameters["score"], parameters["score_bias"]).squeeze(-1)


MLP = Perceptron()

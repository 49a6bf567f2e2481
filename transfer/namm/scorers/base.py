"""What a kind of scorer has to say of itself, and its flat parameter vectors, cut into pieces.

Evolution searches over flat vectors. Every piece keeps the population as its first axis, so one
batched matrix product scores all members.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


class Scorer(ABC):
    """A network that reads a vector a token and gives a score a token.

    Attributes:
        inner: weights, [inputs, outputs], without which the others do nothing and have no slope.
    """

    inner: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def shapes(self, width: int, hidden: int, bias: bool) -> Shapes:
        """Names and shapes of the pieces of the flat parameter vector, in order.

        Args:
            width: of what is read of a token.
            hidden: width of the inner layers (`NAMMConfig.hidden`).
            bias: whether the inner layers have biases.
        """

    @abstractmethod
    def scores(
        self,
        features: Float[Tensor, "population sequences tokens width"],
        parameters: Mapping[str, Tensor],
    ) -> Float[Tensor, "population sequences tokens"]:
        """Score every token.

        Args:
            features: what is read, newest token last. Padding is on the left and must influence
                no token to the right of it.
            parameters: the pieces, each with the population as its first axis.
        """


def split(vector: Float[Tensor, "population params"], shapes: Shapes) -> dict[str, Tensor]:
    """Cut each member's vector into its pieces, row-major and in the order of `shapes`."""
    pieces = vector.split([prod(shape) for shape in shapes.values()], dim=-1)
    return {
        name: piece.unflatten(-1, shape) for (name, shape), piece in zip(shapes.items(), pieces)
    }


def affine(
    x: Float[Tensor, "population sequences tokens inputs"],
    weight: Float[Tensor, "population inputs outputs"],
    bias: Float[Tensor, "population outputs"] | None,
) -> Float[Tensor, "population sequences tokens outputs"]:
    """x @ weight + bias, each member with its own."""
    rows = x.flatten(1, 2)
    y = rows @ weight if bias is None else torch.baddbmm(bias[:, None], rows, weight)
    return y.unflatten(1, x.shape[1:3])

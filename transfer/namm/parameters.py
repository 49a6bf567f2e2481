"""Flat parameter vectors of a whole population, cut into named pieces.

Evolution searches over flat vectors. Every piece keeps the population as its first axis, so one
batched matrix product scores all members.
"""

from collections.abc import Mapping
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


def count(shapes: Shapes) -> int:
    """The length of the flat vector holding pieces of these shapes."""
    return sum(prod(shape) for shape in shapes.values())


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

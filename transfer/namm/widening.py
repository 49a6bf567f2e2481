"""A NAMM that reads more: to begin with, it scores as before."""

from dataclasses import replace
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfer.errors import UserError
from transfer.namm.config import NAMMConfig
from transfer.namm.features.joined import get_feature, parts_of
from transfer.namm.network import NAMM
from transfer.namm.recency import RECENCY
from transfer.namm.scorers import split
from transfer.plugins import SCORERS


def check_widens(old: NAMMConfig, features: str) -> None:
    """Refuse features that leave out what the scorer reads now.

    Raises:
        UserError: they do.
    """
    wide = parts_of(get_feature(features))
    if any(part not in wide for part in parts_of(get_feature(old.features))):
        raise UserError(
            f"features {features} leave out some of {old.features}, which the NAMM to start from "
            f"reads; use {old.features}+{features}, or start anew"
        )


def widened(namm: NAMM, features: str, mean: Tensor, std: Tensor) -> NAMM:
    """The NAMM that reads `features`, of which its own are some, and gives the scores it gave.

    Weights of what is new are zero. So a scorer may be of any kind whose pieces of the parameter
    vector have, along an axis that depends on the width, one or more blocks of that width.

    Args:
        namm: one, or a population.
        features: name of the wider ones.
        mean, std: of those; where the NAMM has its own, these are kept.

    Raises:
        UserError: the features leave out some of the NAMM's, or the scorer is of another kind.
    """
    check_widens(namm.config, features)
    config = replace(namm.config, features=features)
    own = _places(namm.config.features, features)
    mean, std = mean.float().clone(), std.float().clone()
    mean[own], std[own] = namm.mean, namm.std
    inputs, width = torch.cat([torch.arange(RECENCY), RECENCY + own]), RECENCY + len(mean)
    pieces, blocks = split(namm.vector, namm.config.shapes), _blocks(namm.config, len(inputs))
    vector = [
        _spread(piece, (0, *blocks[name]), inputs, width).flatten(1)
        for name, piece in pieces.items()
    ]
    return NAMM(config, torch.cat(vector, 1), mean, std)


def _places(old: str, new: str) -> Int[Tensor, " width"]:
    """Where each number that is read stands among those of the wider features."""
    parts = parts_of(get_feature(new))
    starts = dict(zip(parts, accumulate((part.width for part in parts), initial=0)))
    return torch.cat(
        [starts[part] + torch.arange(part.width) for part in parts_of(get_feature(old))]
    )


def _blocks(config: NAMMConfig, width: int) -> dict[str, tuple[int, ...]]:
    """How many blocks of the scorer's width each axis of each piece has; 0: the axis is another's.

    Raises:
        UserError: an axis depends on the width in another way.
    """
    shapes, scorer = config.shapes, SCORERS.get(config.scorer)
    found = {}
    for name, wider in scorer.shapes(width + 1, config.hidden, config.bias).items():
        found[name] = tuple(after - before for before, after in zip(shapes[name], wider))
        if any(n and size != n * width for n, size in zip(found[name], shapes[name])):
            raise UserError(
                f"scorer {config.scorer} has a piece of shape {list(shapes[name])} for {width} "
                "inputs, of which it is not told where more would go; start anew"
            )
    return found


def _spread(
    piece: Tensor, blocks: tuple[int, ...], inputs: Int[Tensor, " old"], width: int
) -> Float[Tensor, "..."]:
    """A piece with its blocks `width` wide, what they had at `inputs`, and zeros elsewhere."""
    for axis, count in enumerate(blocks):
        if count:
            places = (torch.arange(count)[:, None] * width + inputs).flatten()
            shape = (*piece.shape[:axis], count * width, *piece.shape[axis + 1 :])
            piece = piece.new_zeros(shape).index_copy(axis, places, piece)
    return piece

"""A call's new tokens, cut where an update comes, and put together again.

Sequences of a batch that have come equally far are cut in the same columns. Others, and those with
padding, go side by side: each takes its next tokens up to its own next update.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """Some of a call's new tokens: no update falls between them.

    Attributes:
        index: their columns in the call, `[batch, tokens]` or the same for all sequences.
        valid: False where a sequence has fewer (on the left); None: all have as many.
        counts: how many each sequence has.
    """

    index: slice | Int[Tensor, "batch tokens"]
    valid: Bool[Tensor, "batch tokens"] | None
    counts: list[int]

    def of(
        self, states: Float[Tensor, "batch heads new dim"]
    ) -> Float[Tensor, "batch heads tokens dim"]:
        """Queries, keys or values of these tokens."""
        if isinstance(self.index, slice):
            return states[:, :, self.index]
        index = self.index[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
        return states.gather(2, index)

    def put(self, part: Tensor, out: Float[Tensor, "batch heads new dim"]) -> None:
        """Write what was computed for these tokens where they stand in the call."""
        if isinstance(self.index, slice):
            out[:, :, self.index] = part
            return
        real = torch.ones_like(self.index, dtype=torch.bool) if self.valid is None else self.valid
        sequence = real.nonzero()[:, 0]
        out.transpose(1, 2)[sequence, self.index[real]] = part.transpose(1, 2)[real]


def cut(
    at: Sequence[int],
    interval: int,
    new: int,
    valid: Bool[Tensor, "batch new"] | None,
    device: torch.device,
) -> list[Piece]:
    """The pieces of a call, in order.

    Args:
        at: index of each sequence's next token.
        interval: an update comes at its multiples.
        new: columns of the call.
        valid: False at padding; None: there is none.
        device: of the states.
    """
    phases = {index % interval for index in at}
    if valid is not None:
        return _side_by_side(at, interval, valid)
    if len(phases) > 1 and new > 1:
        everything = torch.ones(len(at), new, dtype=torch.bool, device=device)
        return _side_by_side(at, interval, everything)
    first = interval - phases.pop() if len(phases) == 1 else new
    cuts = [0, *range(first, new, interval), new]
    return [
        Piece(slice(start, stop), None, [stop - start] * len(at)) for start, stop in pairwise(cuts)
    ]


def _side_by_side(
    at: Sequence[int], interval: int, valid: Bool[Tensor, "batch new"]
) -> list[Piece]:
    left, pieces = [row.nonzero()[:, 0] for row in valid], []
    while any(len(columns) for columns in left):
        counts = [min(len(c), interval - a % interval) for c, a in zip(left, at)]
        width = max(counts)
        index = torch.zeros(len(left), width, dtype=torch.long, device=valid.device)
        for row, columns, count in zip(index, left, counts):
            row[width - count :] = columns[:count]
        real = torch.arange(width) >= width - torch.tensor(counts)[:, None]
        pieces.append(Piece(index, None if min(counts) == width else real.to(valid.device), counts))
        left = [columns[count:] for columns, count in zip(left, counts)]
        at = [a + count for a, count in zip(at, counts)]
    return pieces


def assembled(
    pieces: list[Piece],
    parts: list[Float[Tensor, "batch heads _ value_dim"]],
    query: Float[Tensor, "batch heads new dim"],
) -> Float[Tensor, "batch heads new value_dim"]:
    """What was computed piece by piece, each token in its place; 0 at padding."""
    if all(isinstance(piece.index, slice) for piece in pieces) and parts:
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)
    out = query.new_zeros(*query.shape[:3], parts[0].shape[3] if parts else query.shape[3])
    for piece, part in zip(pieces, parts):
        piece.put(part, out)
    return out

"""The newest queries of a layer, from which attention values are recomputed when a policy asks.

Only those that were not looked at yet are held, and as many before them as the policy looks back
at: a few dozen rows however long the window is.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: Queries after which a policy looks at them. More would be held longer, fewer would be looked at
#: in smaller pieces, each with its carried rows recomputed.
STRIDE = 64
#: Between updates it looks at whole multiples of so many, which kernels read at a time.
TILE = 16


@dataclass(frozen=True)
class Queries:
    """Some queries in a row, old to new.

    Attributes:
        query: `[batch, heads, rows, dim]`.
        lse: `[batch, heads, rows]`, +inf where there was no query or only padding.
        first: true position of the first row.
        new: how many of the last rows are asked about; those before are only looked back at.
    """

    query: Float[Tensor, "batch heads rows dim"]
    lse: Float[Tensor, "batch heads rows"]
    first: int
    new: int

    @property
    def rows(self) -> int:
        """Queries in all."""
        return self.query.shape[2]

    def part(self, start: int, stop: int, new: int) -> "Queries":
        """Rows `start` to `stop`, of which the last `new` are asked about."""
        rows = slice(start, stop)
        return Queries(self.query[:, :, rows], self.lse[:, :, rows], self.first + start, new)


class QueryLog:
    """`carried` rows that were looked at already, and up to `room` that were not yet.

    Attributes:
        pending: rows that were not looked at yet.
    """

    def __init__(
        self,
        query: Float[Tensor, "batch heads new dim"],
        lse: Float[Tensor, "batch heads new"],
        carried: int,
        room: int,
    ) -> None:
        shape = (*query.shape[:2], carried + room)
        self.query = query.new_zeros(*shape, query.shape[-1])
        self.lse = lse.new_full(shape, torch.inf)
        self.carried = carried
        self.pending = 0

    def add(
        self,
        query: Float[Tensor, "batch heads new dim"],
        lse: Float[Tensor, "batch heads new"],
    ) -> None:
        """Write new queries behind the others; there must be room for them."""
        start = self.carried + self.pending
        self.pending += query.shape[2]
        rows = slice(start, self.carried + self.pending)
        self.query[:, :, rows], self.lse[:, :, rows] = query, lse

    def held(self, seen: int) -> Queries:
        """All rows, the newest of them at position `seen` - 1."""
        rows = self.carried + self.pending
        return Queries(self.query[:, :, :rows], self.lse[:, :, :rows], seen - rows, self.pending)

    def joined(
        self,
        query: Float[Tensor, "batch heads new dim"],
        lse: Float[Tensor, "batch heads new"],
        seen: int,
    ) -> Queries:
        """All rows and new ones behind them, which are not stored; `seen` includes the new ones."""
        old, new = self.held(seen - query.shape[2]), query.shape[2]
        return Queries(
            torch.cat([old.query, query], 2),
            torch.cat([old.lse, lse], 2),
            old.first,
            self.pending + new,
        )

    def keep_last(self, queries: Queries, pending: int) -> None:
        """Hold only the last of `queries`, of which `pending` were not looked at yet."""
        self.pending = pending
        rows = self.carried + pending
        last = queries.part(queries.rows - rows, queries.rows, pending)
        self.query[:, :, :rows], self.lse[:, :, :rows] = last.query, last.lse

    def select(self, sequences: list[int]) -> None:
        """Keep only these sequences of the batch, in this order."""
        self.query, self.lse = self.query[sequences], self.lse[sequences]

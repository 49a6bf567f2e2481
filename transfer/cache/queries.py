"""The newest queries of a layer, from which attention values are recomputed when a policy asks.

Only those that were not looked at yet are held, and as many before them as the policy looks back
at: a few dozen rows however long the window is.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: Between updates a policy looks at whole multiples of so many queries, which kernels read at a
#: time.
TILE = 16
#: Queries after which it looks at them, beside those that it looks back at. More would be held
#: longer, and they weigh as much as tokens do.
STRIDE = TILE


@dataclass(frozen=True)
class Queries:
    """Some queries in a row, old to new.

    Attributes:
        query: `[batch, heads, rows, dim]`.
        lse: `[batch, heads, rows]`, +inf where there was no query or only padding.
        first: index of the first row's token in its sequence.
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
    """For each sequence `carried` rows that were looked at already, and some that were not yet.

    Attributes:
        pending: how many those are, a number for each sequence, at most `room`.

    Args:
        query, lse: their shapes, dtypes and device.
        carried, room: see above.
        pending: rows that never came but count, so that updates fall where they would with them.
    """

    def __init__(
        self,
        query: Float[Tensor, "batch heads new dim"],
        lse: Float[Tensor, "batch heads new"],
        carried: int,
        room: int,
        pending: int = 0,
    ) -> None:
        shape = (*query.shape[:2], carried + room)
        self.query = query.new_zeros(*shape, query.shape[-1])
        self.lse = lse.new_full(shape, torch.inf)
        self.carried = carried
        self.room = room
        self.pending = [pending] * len(query)

    def add(self, sequences: list[int], new: Queries) -> None:
        """Write new queries of some sequences, alike in `pending`, behind their others."""
        start = self.carried + self.pending[sequences[0]]
        rows, these = slice(start, start + new.rows), self._some(sequences)
        self.query[these, :, rows], self.lse[these, :, rows] = new.query, new.lse
        self._set_pending(sequences, self.pending[sequences[0]] + new.rows)

    def add_to_all(
        self,
        query: Float[Tensor, "batch heads new dim"],
        lse: Float[Tensor, "batch heads new"],
    ) -> None:
        """The same for all sequences at once, however far they are."""
        new, starts = query.shape[2], [self.carried + pending for pending in self.pending]
        if len(set(starts)) == 1:
            rows = slice(starts[0], starts[0] + new)
            self.query[:, :, rows], self.lse[:, :, rows] = query, lse
        else:
            start = torch.tensor(starts, device=query.device)[:, None]
            rows = start + torch.arange(new, device=query.device)
            sequence = torch.arange(len(starts), device=query.device)[:, None]
            self.query[sequence, :, rows] = query.transpose(1, 2)
            self.lse[sequence, :, rows] = lse.transpose(1, 2)
        self.pending = [pending + new for pending in self.pending]

    def held(self, sequences: list[int], after: int) -> Queries:
        """All rows of some sequences, alike in `pending`; the token `after` comes next."""
        pending, these = self.pending[sequences[0]], self._some(sequences)
        rows = slice(0, self.carried + pending)
        query, lse = self.query[these, :, rows], self.lse[these, :, rows]
        return Queries(query, lse, after - rows.stop, pending)

    def joined(self, sequences: list[int], new: Queries) -> Queries:
        """The same and new ones behind them, which are not stored."""
        old = self.held(sequences, new.first)
        query, lse = torch.cat([old.query, new.query], 2), torch.cat([old.lse, new.lse], 2)
        return Queries(query, lse, old.first, old.new + new.new)

    def keep_last(self, sequences: list[int], queries: Queries, pending: int) -> None:
        """Hold only the last of `queries`, of which `pending` were not looked at yet."""
        rows, these = self.carried + pending, self._some(sequences)
        last = queries.part(queries.rows - rows, queries.rows, pending)
        # Into tensors of their own: an older copy of this log may be gone back to.
        self.query, self.lse = self.query.clone(), self.lse.clone()
        self.query[these, :, :rows], self.lse[these, :, :rows] = last.query, last.lse
        self._set_pending(sequences, pending)

    def select(self, sequences: list[int]) -> None:
        """Keep only these sequences of the batch, in this order."""
        self.query, self.lse = self.query[sequences], self.lse[sequences]
        self.pending = [self.pending[sequence] for sequence in sequences]

    def _some(self, sequences: list[int]) -> slice | list[int]:
        return slice(None) if len(sequences) == len(self.pending) else sequences

    def _set_pending(self, sequences: list[int], pending: int) -> None:
        chosen = set(sequences)
        self.pending = [pending if b in chosen else old for b, old in enumerate(self.pending)]

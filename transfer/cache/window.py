"""What a policy may know at an update: the attention of the last queries, computed on demand.

The layer remembers only the window's queries and the logsumexp of their rows. Attention values are
recomputed from them block by block, and only in the form that was asked for; the whole matrix
exists only for who calls `matrix()`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.cache import kernels
from transfer.cache.packed import PackedTokens
from transfer.cache.queries import Queries
from transfer.errors import UserError
from transfer.namm.spectrogram import BINS, HOP, ema_spectrogram

#: Attention values computed at a time for each thread; in float32 they and their spectrum stay in
#: the cache of a core.
BLOCK = 1 << 18


class AttentionWindow:
    """The tokens of one layer, and the attention they got from some of its newest queries.

    Everything per token is `[batch, kv_heads, tokens, ...]`, ordered old to new, padded on the
    left to the longest head of the layer. Attention is averaged over the query heads of a KV
    head, as the original implementation does.

    Attributes:
        layer: index of the layer in the model.
        seen: tokens that went through the layer, padding included.
        padding: how many of them were padding, `[batch]`.
        first: true position of each sequence's first real token, `[batch]`.
        budget: tokens each head may keep, `[batch]`, or None.
    """

    def __init__(
        self,
        store: PackedTokens,
        kv_heads: int,
        layer: int,
        seen: int,
        scale: float,
        padding: Int[Tensor, " batch"],
        first: Int[Tensor, " batch"],
        budget: Int[Tensor, " batch"] | None = None,
        queries: Queries | None = None,
    ) -> None:
        self._store = store
        self._queries = queries
        self._shape = (len(store.lengths) // kv_heads, kv_heads)
        self._scale = scale
        self.layer = layer
        self.seen = seen
        self.padding = padding
        self.first = first
        self.budget = budget

    @cached_property
    def valid(self) -> Bool[Tensor, "batch kv_heads tokens"]:
        """False at padding."""
        return self._by_head(self._store.index()[1])

    @cached_property
    def positions(self) -> Int[Tensor, "batch kv_heads tokens"]:
        """True index of each token in its sequence (0 at padding)."""
        return self._by_head(self._store.padded(self._store.positions))

    @property
    def age(self) -> Int[Tensor, "batch kv_heads tokens"]:
        """Tokens seen since each token; the newest has age 0, evicted ones count."""
        return self.seen - 1 - self.positions

    @cached_property
    def key_norms(self) -> Float[Tensor, "batch kv_heads tokens"]:
        """Euclidean norm of each cached key."""
        return self._by_head(self._store.padded(self._store.keys.float().norm(dim=-1)))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each (sequence, KV head), without padding."""
        return self._store.lengths

    @property
    def queries(self) -> int:
        """Queries this window is about."""
        return self._need_queries().new

    def spectrogram(
        self, gamma: float, onto: Float[Tensor, "batch kv_heads tokens 17"] | None = None
    ) -> Float[Tensor, "batch kv_heads tokens 17"]:
        """EMA over these queries of each token's attention spectrogram (paper section 3.1).

        Args:
            gamma: decay a query.
            onto: what the result is added to, in place; contiguous.
        """
        queries = self._last(HOP + self.queries)
        if onto is None:
            onto = queries.lse.new_zeros(*self._shape, self._store.longest, BINS)
        if kernels.fused(queries.query):
            from transfer.cache.triton_kernels import window_spectrogram

            return onto.add_(
                self._by_head(window_spectrogram(*self._for_kernel(queries), gamma=gamma))
            )

        def reduce(block: Tensor) -> Tensor:
            return ema_spectrogram(block, gamma)

        self._add_blocks(queries, reduce, onto.flatten(0, 1))
        return onto

    def column_sums(self) -> Float[Tensor, "batch kv_heads tokens"]:
        """Attention each token got from these queries."""
        queries = self._last(self.queries)
        if kernels.fused(queries.query):
            from transfer.cache.triton_kernels import column_sums

            return self._by_head(column_sums(*self._for_kernel(queries)))
        sums = queries.lse.new_zeros(len(self._store.lengths), self._store.longest)
        self._add_blocks(queries, lambda block: block.sum(1), sums)
        return self._by_head(sums)

    def rows(self, count: int) -> Float[Tensor, "batch kv_heads count tokens"]:
        """Attention of the last `count` queries (fewer if there are fewer)."""
        last = self._last(min(count, self.queries))
        return self._by_head(self._whole(last))

    def matrix(self) -> Float[Tensor, "batch heads queries tokens"]:
        """Attention of every query head onto the tokens still cached."""
        queries, kv_heads = self._last(self.queries), self._shape[1]
        groups = queries.query.shape[1] // kv_heads
        out = []
        for group in range(groups):
            one = Queries(
                queries.query[:, group::groups],
                queries.lse[:, group::groups],
                queries.first,
                queries.new,
            )
            out.append(self._by_head(self._whole(one)))
        return torch.stack(out, 2).flatten(1, 2)

    def _whole(self, queries: Queries) -> Float[Tensor, "rows queries tokens"]:
        rows = slice(0, len(self._store.lengths))
        return self._block(self._exact(queries, rows), rows, slice(0, self._store.longest))

    def _by_head(self, rows: Tensor) -> Tensor:
        return rows.view(*self._shape, *rows.shape[1:])

    def _need_queries(self) -> Queries:
        if self._queries is None or not self._queries.rows:
            raise UserError(
                "this cache did not remember its queries; attach with expose_attention=True"
            )
        return self._queries

    def _last(self, count: int) -> Queries:
        """The newest `count` queries.

        Raises:
            ValueError: the policy asked for more than it looks back at.
        """
        queries = self._need_queries()
        if count > queries.rows:
            raise ValueError(f"{count} queries were asked for, {queries.rows} are held")
        return queries.part(queries.rows - count, queries.rows, min(count, queries.new))

    def _for_kernel(self, queries: Queries) -> tuple[Any, ...]:
        """What the kernels take: the queries by row, and where the tokens of each row are."""
        groups = (self._shape[1], queries.query.shape[1] // self._shape[1])
        query, lse = (x.unflatten(1, groups).flatten(0, 1) for x in (queries.query, queries.lse))
        store = self._store
        tokens = (store.keys, store.positions, store.starts, store.ends - store.starts)
        return query, lse, *tokens, store.longest, queries.first, self._scale

    def _add_blocks(
        self,
        queries: Queries,
        reduce: Callable[[Tensor], Tensor],
        onto: Float[Tensor, "rows tokens ..."],
    ) -> None:
        """Add what `reduce` makes of `[rows, queries, tokens]`, block by block."""
        tokens, rows = self._store.longest, len(self._store.lengths)
        columns = max(1, BLOCK * torch.get_num_threads() // queries.rows)
        together = max(1, columns // max(tokens, 1))
        for row in range(0, rows, together):
            some = slice(row, min(rows, row + together))
            exact = self._exact(queries, some)
            # A row visited alone needs no look at the padding of longer rows.
            start = tokens - self._store.lengths[row] if together == 1 else 0
            for column in range(start, tokens, columns):
                block = slice(column, min(tokens, column + columns))
                onto[some, block] += reduce(self._block(exact, some, block))

    def _exact(self, queries: Queries, rows: slice) -> "_Exact":
        """The queries of some rows, one tensor for each query head of a KV head."""
        groups = (self._shape[1], queries.query.shape[1] // self._shape[1])
        dtype = queries.lse.dtype
        query = queries.query.unflatten(1, groups).flatten(0, 1)[rows].to(dtype)
        lse = queries.lse.unflatten(1, groups).flatten(0, 1)[rows]
        # The mean over the group is folded into the exponent.
        shift = -(lse + math.log(groups[1]))[..., None]
        return _Exact(query.unbind(1), shift.unbind(1), queries.first)

    def _block(
        self, queries: "_Exact", rows: slice, columns: slice
    ) -> Float[Tensor, "rows queries tokens"]:
        """Attention of the queries onto some tokens, averaged over the heads of a group."""
        key = self._stored(self._store.keys, rows, columns).to(queries.shift[0].dtype).mT

        def one(query: Tensor, shift: Tensor) -> Tensor:
            return torch.baddbmm(shift, query, key, alpha=self._scale).exp_()

        first, *others = zip(queries.query, queries.shift)
        block = one(*first)
        for other in others:
            block += one(*other)
        return self._hide(block, queries.first, rows, columns)

    @cached_property
    def _index(self) -> tuple[Tensor, Tensor]:
        return self._store.index()

    def _stored(self, buffer: Tensor, rows: slice, columns: slice) -> Tensor:
        """`[rows, columns, ...]` of a buffer; anything at padding."""
        if rows.stop - rows.start == 1:
            store, row = self._store, rows.start
            shift = store.offsets[row] + store.lengths[row] - store.longest
            # Nothing lies before the row's first token.
            if shift + columns.start >= store.offsets[row]:
                return buffer[None, shift + columns.start : shift + columns.stop]
        return buffer[self._index[0][rows, columns].clamp(min=0)]

    def _hide(
        self, block: Float[Tensor, "rows queries tokens"], first: int, rows: slice, columns: slice
    ) -> Float[Tensor, "rows queries tokens"]:
        """Zero the values of padding and of tokens newer than the query, by true position."""
        # Only tokens that came since the first query can be newer than one. (Rows that share a
        # block share all of it, so an early block never holds padding.)
        if columns.stop <= self._store.longest - (self.seen - first):
            return block
        count = block.shape[1]
        position = self._stored(self._store.positions, rows, columns)
        at = torch.arange(first, first + count, device=block.device)
        hidden = (at[:, None] < position[:, None]) | ~self._index[1][rows, columns][:, None]
        return block.masked_fill_(hidden, 0)


@dataclass(frozen=True)
class _Exact:
    """Queries in the precision of their logsumexp, by query head of the group."""

    query: tuple[Float[Tensor, "rows queries dim"], ...]
    shift: tuple[Float[Tensor, "rows queries 1"], ...]
    first: int

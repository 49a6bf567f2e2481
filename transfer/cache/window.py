"""What a policy may know at an update: the attention of the last queries, computed on demand.

The layer remembers only the window's queries and the logsumexp of their rows. Attention values are
recomputed from them block by block, and only in the form that was asked for; the whole matrix
exists only for who calls `matrix()`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.cache import kernels
from transfer.cache.packed import PackedTokens
from transfer.cache.queries import Queries
from transfer.errors import UserError
from transfer.ragged import RaggedAttention

#: Attention values computed at a time for each thread; in float32 they and what they are reduced to
#: stay in the cache of a core.
BLOCK = 1 << 18


class AttentionWindow:
    """The tokens of one layer, and the attention they got from some of its newest queries.

    Everything per token is `[batch, kv_heads, tokens, ...]`, ordered old to new, padded on the
    left to the longest head of the layer. Attention is averaged over the query heads of a KV
    head, as the original implementation does.

    Attributes:
        layer: index of the layer in the model.
        seen: tokens of each sequence that went through the layer; padding does not count.
        first: index of the sequences' first token, see `PrunedCache.count_from`.
        budget: tokens each head may keep, protected ones among them, `[batch]`; None without one,
            and before an update.
    """

    def __init__(
        self,
        store: PackedTokens,
        queries: Queries | None,
        *,
        layer: int,
        seen: int,
        first: int,
        batch: int,
        scale: float,
        budget: Int[Tensor, " batch"] | None,
    ) -> None:
        self._store = store
        self._queries = queries
        self._shape = (batch, len(store.lengths) // batch)
        self._scale = scale
        self.layer = layer
        self.seen = seen
        self.first = first
        self.budget = budget

    @cached_property
    def valid(self) -> Bool[Tensor, "batch kv_heads tokens"]:
        """False at padding."""
        return self._by_head(self._index[1])

    @cached_property
    def positions(self) -> Int[Tensor, "batch kv_heads tokens"]:
        """Index of each token in its sequence, evicted ones counted (0 at padding)."""
        return self._by_head(self._store.padded(self._store.positions))

    @property
    def age(self) -> Int[Tensor, "batch kv_heads tokens"]:
        """Tokens seen since each token; the newest has age 0, evicted ones count."""
        return self.seen - 1 - self.positions

    @cached_property
    def keys(self) -> Float[Tensor, "batch kv_heads tokens dim"]:
        """Each cached key as it is attended to, positions in it; 0 at padding.

        A copy, in single precision at least: for rules that need more than norms.
        """
        return self._by_head(self._store.padded(self._store.keys).to(self._store.exact))

    @cached_property
    def values(self) -> Float[Tensor, "batch kv_heads tokens value_dim"]:
        """Each cached value, likewise."""
        return self._by_head(self._store.padded(self._store.values).to(self._store.exact))

    @cached_property
    def key_norms(self) -> Float[Tensor, "batch kv_heads tokens"]:
        """Euclidean norm of each cached key."""
        keys = self._store.keys.to(self._store.exact)
        return self._by_head(self._store.padded(keys.norm(dim=-1)))

    @cached_property
    def value_norms(self) -> Float[Tensor, "batch kv_heads tokens"]:
        """Euclidean norm of each cached value."""
        values = self._store.values.to(self._store.exact)
        return self._by_head(self._store.padded(values.norm(dim=-1)))

    @property
    def scale(self) -> float:
        """What products of queries and keys are multiplied by before the softmax."""
        return self._scale

    @property
    def lengths(self) -> list[int]:
        """Tokens of each (sequence, KV head), without padding."""
        return self._store.lengths

    @property
    def queries(self) -> int:
        """Queries this window is about."""
        return self._need_queries().new

    def fold(
        self,
        reduce: Callable[[Tensor], Tensor],
        onto: Float[Tensor, "batch kv_heads tokens ..."],
        carried: int = 0,
    ) -> Float[Tensor, "batch kv_heads tokens ..."]:
        """Add what `reduce` makes of the attention to `onto`, block by block.

        Args:
            reduce: of `[rows, queries, tokens]`, old queries to new, gives `[rows, tokens, ...]`.
                A row is a KV head of a sequence. Padding, and tokens that a query cannot see, have
                0; so does a query before the first, or at padding.
            onto: what it is added to, in place; contiguous.
            carried: queries before this window's own that every block begins with.

        Returns:
            `onto`.

        Raises:
            ValueError: more are carried than the policy looks back at.
        """
        queries = self._last(carried + self.queries)
        rows = onto.view(len(self._store.lengths), *onto.shape[2:])
        tokens = self._store.longest
        columns = max(1, BLOCK * torch.get_num_threads() // queries.rows)
        together = max(1, columns // max(tokens, 1))
        for row in range(0, len(rows), together):
            some = slice(row, min(len(rows), row + together))
            exact = self._exact(queries, some)
            # A row visited alone needs no look at the padding of longer rows.
            start = tokens - self._store.lengths[row] if together == 1 else 0
            for column in range(start, tokens, columns):
                block = slice(column, min(tokens, column + columns))
                rows[some, block] += reduce(self._block(exact, some, block))
        return onto

    def ragged(self, carried: int = 0) -> RaggedAttention | None:
        """What a kernel needs to do the same in one launch; None where there is no GPU for it.

        Raises:
            ValueError: more are carried than the policy looks back at.
        """
        queries, store = self._last(carried + self.queries), self._store
        if not kernels.fused(queries.query):
            return None
        groups = (self._shape[1], queries.query.shape[1] // self._shape[1])
        query, lse = (x.unflatten(1, groups).flatten(0, 1) for x in (queries.query, queries.lse))
        return RaggedAttention(
            query=query,
            lse=lse,
            keys=store.keys,
            positions=store.positions,
            starts=store.starts,
            lengths=store.ends - store.starts,
            longest=store.longest,
            first=queries.first,
            scale=self._scale,
        )

    def column_sums(self) -> Float[Tensor, "batch kv_heads tokens"]:
        """Attention each token got from these queries."""
        ragged = self.ragged()
        if ragged is None:
            sums = self._need_queries().lse.new_zeros(*self._shape, self._store.longest)
            return self.fold(lambda block: block.sum(1), sums)
        from transfer.cache.triton_kernels import column_sums

        return self._by_head(column_sums(ragged))

    def rows(self, count: int) -> Float[Tensor, "batch kv_heads count tokens"]:
        """Attention of the last `count` queries, those of earlier windows among them.

        Raises:
            ValueError: the policy looks back at fewer.
        """
        return self._by_head(self._whole(self._last(count)))

    def query_moments(
        self, count: int
    ) -> tuple[
        Float[Tensor, "batch kv_heads groups dim"], Float[Tensor, "batch kv_heads groups dim dim"]
    ]:
        """Mean and covariance of the last `count` queries of each query head, as they attended.

        Of a sequence with fewer queries those that came; sums are divided by their number.

        Raises:
            ValueError: the policy looks back at fewer.
        """
        queries = self._last(count)
        real = queries.lse.isfinite()[..., None]
        query = queries.query.to(queries.lse.dtype).masked_fill(~real, 0)
        number = real.sum(2, keepdim=True).clamp(min=1)
        mean = query.sum(2, keepdim=True) / number
        centred = (query - mean).masked_fill(~real, 0)
        groups = (self._shape[1], query.shape[1] // self._shape[1])
        covariance = centred.mT @ centred / number
        return mean[:, :, 0].unflatten(1, groups), covariance.unflatten(1, groups)

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
                "this cache did not remember its queries; let the policy that looks at them say "
                "reads_attention = True in its class, or attach with expose_attention=True"
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
        if self._store.uniform:
            return self._store.dense(buffer)[rows, columns]
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
        early = self._store.longest - (self.seen - first)
        if columns.stop <= early:
            return block
        at = torch.arange(first, first + block.shape[1], device=block.device)[:, None]
        if self._store.uniform:
            columns = slice(max(early, columns.start), columns.stop)
            position = self._stored(self._store.positions, rows, columns)
            block[..., columns.start - columns.stop :].masked_fill_(at < position[:, None], 0)
            return block
        position = self._stored(self._store.positions, rows, columns)
        hidden = (at < position[:, None]) | ~self._index[1][rows, columns][:, None]
        return block.masked_fill_(hidden, 0)


@dataclass(frozen=True)
class _Exact:
    """Queries in the precision of their logsumexp, by query head of the group."""

    query: tuple[Float[Tensor, "rows queries dim"], ...]
    shift: tuple[Float[Tensor, "rows queries 1"], ...]
    first: int

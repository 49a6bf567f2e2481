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

from transfer.cache.packed import PackedTokens
from transfer.errors import UserError
from transfer.namm.spectrogram import BINS, HOP, ema_spectrogram

#: Attention values computed at a time (2 MB in float32).
BLOCK = 1 << 19


@dataclass(frozen=True)
class Queries:
    """The queries of a window, after the `HOP` last ones of the window before.

    Attributes:
        query: `[batch, heads, HOP + queries, dim]`.
        lse: `[batch, heads, HOP + queries]`, +inf where there was no query or only padding.
        first: true position of the first row.
    """

    query: Float[Tensor, "batch heads rows dim"]
    lse: Float[Tensor, "batch heads rows"]
    first: int


class AttentionWindow:
    """The tokens of one layer at an update, and the attention they got since the last one.

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
    def queries(self) -> int:
        """Queries since the last update."""
        return self._need_queries().query.shape[2] - HOP

    def state(self) -> Float[Tensor, "batch kv_heads tokens size"]:
        """What the policy stored with each token."""
        return self._by_head(self._store.padded_state())

    def spectrogram(self, gamma: float) -> Float[Tensor, "batch kv_heads tokens 17"]:
        """EMA over this window of each token's attention spectrogram (paper section 3.1)."""

        def reduce(block: Float[Tensor, "rows queries tokens"]) -> Tensor:
            return ema_spectrogram(block, gamma)

        return self._over_blocks(reduce, (BINS,))

    def column_sums(self) -> Float[Tensor, "batch kv_heads tokens"]:
        """Attention each token got from the queries of this window."""
        return self._over_blocks(lambda block: block[:, HOP:].sum(1), ())

    def rows(self, count: int) -> Float[Tensor, "batch kv_heads count tokens"]:
        """Attention of the last `count` queries (fewer if the window is shorter)."""
        queries = self._need_queries()
        count = min(count, self.queries)
        last = Queries(
            queries.query[:, :, -count:],
            queries.lse[:, :, -count:],
            queries.first + queries.query.shape[2] - count,
        )
        return self._by_head(self._block(last, slice(None), slice(0, self._store.longest)))

    def matrix(self) -> Float[Tensor, "batch heads queries tokens"]:
        """Attention of every query head of the window onto the tokens still cached."""
        queries = self._need_queries()
        batch, heads = queries.query.shape[:2]
        kv_heads = self._shape[1]
        groups = heads // kv_heads
        out = []
        for group in range(groups):
            one = Queries(
                queries.query[:, group::groups], queries.lse[:, group::groups], queries.first
            )
            out.append(self._block(one, slice(None), slice(0, self._store.longest)))
        stacked = torch.stack(out, 1)[:, :, HOP:]
        stacked = stacked.view(batch, kv_heads, groups, *stacked.shape[2:])
        return stacked.flatten(1, 2)

    def _by_head(self, rows: Tensor) -> Tensor:
        return rows.view(*self._shape, *rows.shape[1:])

    def _need_queries(self) -> Queries:
        if self._queries is None:
            raise UserError(
                "this cache did not remember its queries; attach with expose_attention=True"
            )
        return self._queries

    def _over_blocks(
        self, reduce: Callable[[Tensor], Tensor], shape: tuple[int, ...]
    ) -> Float[Tensor, "batch kv_heads tokens ..."]:
        """Apply `reduce` (`[rows, queries, tokens] -> [rows, tokens, *shape]`) block by block."""
        queries = self._need_queries()
        tokens, rows = self._store.longest, len(self._store.lengths)
        columns = max(1, BLOCK // queries.query.shape[2])
        together = max(1, columns // max(tokens, 1))
        out = queries.lse.new_empty(rows, tokens, *shape)
        for row in range(0, rows, together):
            some = slice(row, min(rows, row + together))
            # A row visited alone needs no look at the padding of longer rows.
            start = tokens - self._store.lengths[row] if together == 1 else 0
            out[some, :start] = 0
            for column in range(start, tokens, columns):
                block = slice(column, min(tokens, column + columns))
                out[some, block] = reduce(self._block(queries, some, block))
        return self._by_head(out)

    def _block(
        self, queries: Queries, rows: slice, columns: slice
    ) -> Float[Tensor, "rows queries tokens"]:
        """Attention of the window onto some tokens, averaged over the queries' groups."""
        index, valid = self._index
        index, valid = index[rows, columns], valid[rows, columns]
        exact = queries.lse.dtype
        key = self._store.keys[index.clamp(min=0)].to(exact).mT
        kv_heads = self._shape[1]
        groups = queries.query.shape[1] // kv_heads
        query = queries.query.unflatten(1, (kv_heads, groups)).flatten(0, 1)[rows]
        lse = queries.lse.unflatten(1, (kv_heads, groups)).flatten(0, 1)[rows]
        # The mean over the group is folded into the exponent.
        shift = -(lse + math.log(groups))[..., None]

        def one(group: int) -> Tensor:
            return torch.baddbmm(
                shift[:, group], query[:, group].to(exact), key, alpha=self._scale
            ).exp_()

        block = one(0)
        for group in range(1, groups):
            block += one(group)
        return self._hide(block, queries, index, valid, columns)

    @cached_property
    def _index(self) -> tuple[Tensor, Tensor]:
        return self._store.index()

    def _hide(
        self,
        block: Float[Tensor, "rows queries tokens"],
        queries: Queries,
        index: Int[Tensor, "rows tokens"],
        valid: Bool[Tensor, "rows tokens"],
        columns: slice,
    ) -> Float[Tensor, "rows queries tokens"]:
        """Zero the values of padding and of tokens newer than the query, by true position."""
        count = block.shape[1]
        # Only as many tokens as there are queries can be newer than the first of them. (Rows that
        # share a block share all of it, so an early block never holds padding.)
        if columns.stop <= self._store.longest - count:
            return block
        position = self._store.positions[index.clamp(min=0)]
        at = torch.arange(queries.first, queries.first + count, device=block.device)
        hidden = (at[:, None] < position[:, None]) | ~valid[:, None]
        return block.masked_fill_(hidden, 0)

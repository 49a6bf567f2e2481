"""Ragged stores and windows over them, for tests of Triton kernels, which may be interpreted."""

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime import interpreter

from transfer.ragged import RaggedAttention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SCALE = 0.3


@pytest.fixture(autouse=True)
def bfloat16_products(monkeypatch):
    """The interpreter keeps bfloat16 as its bits, and would multiply those."""

    def wide(operand):
        if operand.dtype.scalar != tl.bfloat16:
            return operand
        bits = operand.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    usual = interpreter.InterpreterBuilder.create_dot

    def create_dot(self, a, b, *rest):
        return usual(self, wide(a), wide(b), *rest)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)


class Store:
    """A ragged store as `PackedTokens` lays it out, NaN in every slot that holds no token."""

    def __init__(self, lengths, dim, value_dim, dtype=torch.float32, slack=7):
        self.longest = max(lengths)
        self.lengths = torch.tensor(lengths)
        capacity = self.lengths + slack
        self.offsets = capacity.cumsum(0) - capacity
        slots = int(capacity.sum())
        self.keys = torch.full((slots, dim), torch.nan, dtype=dtype)
        self.values = torch.full((slots, value_dim), torch.nan, dtype=dtype)
        self.positions = torch.full((slots,), -1, dtype=torch.int32)
        for row in range(len(lengths)):
            self.keys[self.row(row)] = torch.randn(lengths[row], dim, dtype=dtype)
            self.values[self.row(row)] = torch.randn(lengths[row], value_dim, dtype=dtype)
        for name, buffer in list(vars(self).items()):
            if isinstance(buffer, torch.Tensor):
                setattr(self, name, buffer.to(DEVICE))

    def row(self, row, count=None):
        length = int(self.lengths[row]) if count is None else count
        return slice(int(self.offsets[row]), int(self.offsets[row]) + length)

    @property
    def tokens(self):
        return self.keys, self.values, self.offsets, self.lengths


class Window:
    """Queries of a window, a view into a longer ring, over a store that evicted some tokens."""

    def __init__(self, store, groups, queries, first):
        rows, dim = len(store.lengths), store.keys.shape[1]
        self.store, self.first = store, first
        ring = torch.randn(rows, groups, queries + 16, dim, device=DEVICE).to(store.keys.dtype)
        self.query = ring[:, :, :queries]
        self.attention = torch.zeros(rows, queries, store.longest, dtype=torch.float64)
        at = first + torch.arange(queries, device=DEVICE)
        lse_ring = torch.full((rows, groups, queries + 16), torch.inf, device=DEVICE)
        self.lse = lse_ring[:, :, :queries]
        for row, length in enumerate(store.lengths.tolist()):
            newest = first + queries
            position = torch.randperm(newest)[:length].sort().values.to(DEVICE)
            store.positions[store.row(row)] = position.int()
            scores = self.query[row].double() @ store.keys[store.row(row)].double().mT * SCALE
            scores = scores.masked_fill(position > at[:, None], -torch.inf)
            seen = scores.logsumexp(-1).clamp(min=0) + torch.rand(groups, queries, device=DEVICE)
            # Some queries were padding, or before the first token.
            absent = (torch.rand(queries, device=DEVICE) < 0.1) | (at < 0)
            self.lse[row] = seen.masked_fill(absent, torch.inf).float()
            attention = (scores - self.lse[row].double()[..., None]).exp().mean(0)
            self.attention[row, :, store.longest - length :] = attention

    @property
    def ragged(self):
        store = self.store
        tokens = (store.keys, store.positions, store.offsets, store.lengths, store.longest)
        return RaggedAttention(self.query, self.lse, *tokens, self.first, SCALE)

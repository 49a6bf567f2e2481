"""The three layouts of `attend` against one direct computation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.cache import attend as module
from transfer.cache.attend import attend
from transfer.cache.packed import PackedTokens


def direct(query, key, value, valid, held, scale):
    """Row by row: what the cache held, then the new tokens up to oneself."""
    batch, heads, new, _ = query.shape
    kv_heads = key.shape[1]
    out = torch.empty_like(query)
    for b in range(batch):
        for h in range(heads):
            kv = h // (heads // kv_heads)
            past_key, past_value = held[b * kv_heads + kv]
            for i in range(new):
                seen = [j for j in range(i + 1) if valid is None or valid[b, j] or j == i]
                # padding never sees the past of others' tokens, but shares the cache
                keys = torch.cat([past_key, key[b, kv, seen]])
                values = torch.cat([past_value, value[b, kv, seen]])
                weights = (keys @ query[b, h, i] * scale).softmax(0)
                out[b, h, i] = weights @ values
    return out


@given(
    lengths=st.lists(st.integers(0, 40), min_size=4, max_size=4),
    new=st.sampled_from([1, 3, 8, 9, 20]),
    groups=st.sampled_from([1, 3]),
    layout=st.sampled_from(["padded", "rows"]),
    padded=st.booleans(),
    seed=st.integers(0, 100),
)
def test_uneven_rows(lengths, new, groups, layout, padded, seed):
    check(lengths, new, groups, layout, padded, seed)


@given(
    length=st.integers(0, 40),
    new=st.sampled_from([1, 3, 8, 9]),
    groups=st.sampled_from([1, 3]),
    seed=st.integers(0, 100),
)
def test_even_rows_take_the_dense_view(length, new, groups, seed):
    check([length] * 4, new, groups, "padded", False, seed)


def check(lengths, new, groups, layout, padded, seed):
    torch.manual_seed(seed)
    batch, kv_heads, dim = 2, 2, 8
    empty = torch.zeros(batch, kv_heads, 0, dim, dtype=torch.float64)
    store = PackedTokens(empty, empty, 0, state_dtype=torch.float32, slack=4)
    if max(lengths):
        old = torch.randn(batch, kv_heads, max(lengths), dim, dtype=torch.float64)
        store.append(old, -old, [0], None)
        column = torch.arange(max(lengths))
        kept = column >= max(lengths) - torch.tensor(lengths)[:, None]
        store.keep(kept.view(batch, kv_heads, -1), old[..., :0], 4)
        # What was never written must never be read.
        used = torch.zeros(len(store.keys), dtype=torch.bool)
        for offset, length in zip(store.offsets, lengths):
            used[offset : offset + length] = True
        store.keys[~used] = torch.nan
        store.values[~used] = torch.nan
    held = [
        (store.row(store.keys, row).clone(), store.row(store.values, row).clone())
        for row in range(4)
    ]
    past = store.lengths
    query = torch.randn(batch, kv_heads * groups, new, dim, dtype=torch.float64)
    key, value = (torch.randn(batch, kv_heads, new, dim, dtype=torch.float64) for _ in "kv")
    valid = None
    if padded:
        valid = torch.rand(batch, new) < 0.5
        valid[0, 0], valid[1, -1] = False, True
    store.append(key, value, [max(lengths)] * batch, valid)
    short = module.SHORT
    try:
        module.SHORT = short if layout == "padded" else 0
        out, lse = attend(query, key, value, valid, store, past, 0.4)
    finally:
        module.SHORT = short
    torch.testing.assert_close(out, direct(query, key, value, valid, held, 0.4))
    assert torch.isfinite(lse).all()


@pytest.mark.parametrize("layout", ["padded", "rows"])
def test_an_empty_row_among_full_ones(layout):
    check([0, 5, 9, 0], 12, 1, layout, True, 3)

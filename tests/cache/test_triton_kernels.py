"""The Triton kernels against plain formulas; without a GPU they run in Triton's interpreter."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from ragged_rows import DEVICE, SCALE, Store, Window, bfloat16_products  # noqa: F401

from transfer import NAMM, NAMMConfig
from transfer.cache import kernels as cache_kernels
from transfer.cache import triton_kernels as kernels
from transfer.cache.kernels import plain_attention
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.policies import get_policy

pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION is unset")

TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
LENGTHS = [37, 0, 150, 1]


def direct_attention(store, query, new):
    """Row by row and step by step, over the tokens that the step's queries see."""
    rows, queries, _ = query.shape
    out = query.new_zeros(rows, queries, store.values.shape[1])
    lse = torch.full((rows, queries), -torch.inf, device=query.device)
    for row, length in enumerate(store.lengths.tolist()):
        for step in range(max(new, 1)):
            seen = length - new + 1 + step if new else length
            if seen > 0:
                mine, tokens = slice(step, None, max(new, 1)), store.row(row, seen)
                three = query[row, mine], store.keys[tokens], store.values[tokens]
                result = plain_attention(*(x[None, None] for x in three), SCALE)
                out[row, mine], lse[row, mine] = result[0][0, 0], result[1][0, 0]
    return out, lse


def check_attention(store, groups, new):
    query = torch.randn(
        len(store.lengths), groups * max(new, 1), store.keys.shape[1], device=DEVICE
    ).to(store.keys.dtype)
    out, lse = kernels.ragged_attention(query, *store.tokens, store.longest, SCALE, new)
    expected, expected_lse = direct_attention(store, query, new)
    assert out.dtype == query.dtype
    tolerance = TOLERANCE[query.dtype]
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)
    # Scores and sums are float32 for every dtype.
    torch.testing.assert_close(lse, expected_lse, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("dim", "value_dim"), [(16, 16), (64, 24), (80, 96)])
@pytest.mark.parametrize(("groups", "new"), [(1, 0), (4, 1), (2, 5)])
def test_attention_over_uneven_rows(groups, new, dim, value_dim, dtype):
    check_attention(Store(LENGTHS, dim, value_dim, dtype), groups, new)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_many_queries_take_several_tiles(dtype):
    check_attention(Store([90, 60, 0, 43], 32, 32, dtype), groups=4, new=43)


@pytest.mark.parametrize("splits", [1, 2, 8])
def test_the_tokens_of_a_row_may_be_shared_out(splits, monkeypatch):
    monkeypatch.setattr(kernels, "SPLIT_TOKENS", 1)
    monkeypatch.setattr(kernels, "MOST_SPLITS", splits)
    merge, parts = kernels._merge_kernel, []

    class Watched:
        def __getitem__(self, grid):
            return lambda *args: (parts.append(args[1].isfinite().sum(-1)), merge[grid](*args))

    monkeypatch.setattr(kernels, "_merge_kernel", Watched())
    check_attention(Store(LENGTHS, 16, 24), groups=1, new=3)
    check_attention(Store(LENGTHS, 16, 24), groups=2, new=0)
    # The last query's 150 tokens are 5 tiles of 32.
    assert [part[2, -1].item() for part in parts] == [min(splits, 5)] * 2 * (splits > 1)


def test_splits_fill_the_device_and_no_more():
    # One sequence of 8 KV heads decodes in 256 programs, a chunk of 512 x 4 queries in 128.
    assert kernels._splits(8 * 4, 4096) == 32
    assert kernels._splits(8 * 16 * 8, 4096) == 1
    assert kernels._splits(8 * 4, 100) == 1
    assert kernels._splits(4, 10**6) == kernels.MOST_SPLITS
    assert kernels._splits(0, 0) == 1


def test_queries_may_lie_in_any_order():
    store = Store(LENGTHS, 16, 16)
    query = torch.randn(3, 4, 16, device=DEVICE).transpose(0, 1)
    out, _ = kernels.ragged_attention(query, *store.tokens, store.longest, SCALE)
    torch.testing.assert_close(out, direct_attention(store, query, 0)[0])


@settings(max_examples=6)
@given(
    lengths=st.lists(st.integers(0, 140), min_size=1, max_size=4),
    groups=st.sampled_from([1, 3]),
    new=st.sampled_from([0, 1, 4, 9]),
    seed=st.integers(0, 100),
)
def test_attention_over_any_rows(lengths, groups, new, seed):
    torch.manual_seed(seed)
    check_attention(Store(lengths, 16, 16), groups, new)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("new", [1, 5, 20])
def test_append_writes_behind_each_row_and_nowhere_else(new, dtype):
    store = Store(LENGTHS, 80, 24, dtype, slack=21)
    # As models hand them over: [batch, new, heads, dim], transposed.
    key, value = (
        torch.randn(1, new, 4, dim, device=DEVICE, dtype=dtype).transpose(1, 2)[0]
        for dim in (80, 24)
    )
    expected = [store.keys.clone(), store.values.clone(), store.positions.clone()]
    for row, length in enumerate(LENGTHS):
        slots = slice(store.row(row).stop, store.row(row).stop + new)
        expected[0][slots], expected[1][slots] = key[row], value[row]
        expected[2][slots] = torch.arange(500, 500 + new)
        assert slots.start == store.row(row).start + length
    kernels.append(*store.tokens[:2], store.positions, *store.tokens[2:], key, value, 500)
    for buffer, wanted in zip((store.keys, store.values, store.positions), expected):
        torch.testing.assert_close(buffer, wanted, rtol=0, atol=0, equal_nan=True)
    assert store.lengths.tolist() == LENGTHS


def check_sums(window):
    sums = kernels.column_sums(window.ragged)
    assert sums.dtype == torch.float32
    torch.testing.assert_close(
        sums, window.attention.sum(1), rtol=2e-5, atol=5e-6, check_dtype=False, check_device=False
    )


@pytest.mark.parametrize(
    ("dtype", "dim"),
    [(torch.float32, 64), (torch.float32, 80), (torch.float16, 16), (torch.bfloat16, 80)],
    ids=str,
)
@pytest.mark.parametrize(("groups", "queries", "first"), [(1, 64, 90), (4, 21, 200), (2, 7, -2)])
def test_column_sums_of_uneven_rows(groups, queries, first, dim, dtype):
    lengths = [37, 0, 130, 1] if first > 0 else [5, 0, 2, 1]
    check_sums(Window(Store(lengths, dim, 8, dtype), groups, queries, first))


@settings(max_examples=6)
@given(
    lengths=st.lists(st.integers(0, 100), min_size=1, max_size=3).filter(max),
    groups=st.sampled_from([1, 3]),
    queries=st.integers(1, 60),
    seed=st.integers(0, 100),
)
def test_column_sums_of_any_rows(lengths, groups, queries, seed):
    torch.manual_seed(seed)
    check_sums(Window(Store(lengths, 16, 16), groups, queries, 100))


@pytest.mark.parametrize("policy", ["namm", "h2o"])
@pytest.mark.parametrize("padding", [0, 20], ids=["unpadded", "padded"])
def test_a_layer_does_the_same_with_kernels_and_without(policy, padding, monkeypatch):
    """Appending, attention, features and eviction together, in chunks and in single steps."""
    chosen = get_policy("h2o") if policy == "h2o" else get_policy("namm", namm=NAMM(NAMMConfig()))
    query = torch.randn(2, 4, 100, 16, device=DEVICE)
    key, value = (torch.randn(2, 2, 100, 16, device=DEVICE) for _ in "kv")
    valid = torch.ones(2, 100, dtype=torch.bool, device=DEVICE)
    valid[1, :padding] = False

    def run():
        layer, out = PrunedLayer(Pruning(chosen, 32, 0.3, trace=True), 0), []
        for start, stop in pairwise([0, 40, 41, 42, 45, 90, 100]):
            piece = slice(start, stop)
            layer.update(key[:, :, piece], value[:, :, piece])
            new = (states[:, :, piece] for states in (query, key, value))
            pad = None if valid[:, piece].all() else valid[:, piece]
            out.append(layer.attend(*new, pad, SCALE))
        return layer, torch.cat(out, 2)

    results = []
    for fused in (False, True):
        monkeypatch.setattr(cache_kernels, "fused", lambda states, fused=fused: fused)
        results.append(run())
    (plain, expected), (kernel, out) = results
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    for (_, one), (_, other) in zip(plain.kept_positions[0], kernel.kept_positions[0]):
        assert [row.tolist() for row in one] == [row.tolist() for row in other]
    torch.testing.assert_close(kernel.store.state, plain.store.state, rtol=1e-4, atol=1e-5)
    assert min(plain.store.lengths) < 100

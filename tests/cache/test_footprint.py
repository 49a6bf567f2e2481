"""The sum of shapes against the bytes of the tensors that a layer really holds."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from transfer import NAMM, NAMMConfig
from transfer.cache.footprint import LayerShape, held, held_next, peak
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.policies import get_policy


def make(name):
    return get_policy(name, **({"namm": NAMM(NAMMConfig())} if name == "namm" else {}))


@settings(max_examples=40)
@given(
    policy=st.sampled_from(
        ["namm", "h2o", "snapkv", "tova", "fastgen", "recency", "random", "lagkv", "keydiff"]
    ),
    budget=st.sampled_from([5, 0.1, 0.25, 0.5, 1.0]),
    update_interval=st.sampled_from([1, 7, 16, 20, 48, 64, 100, 128, 160]),
    seen=st.integers(1, 700),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_a_prompt_in_one_call_holds_what_the_footprint_says(
    policy, budget, update_interval, seen, dtype
):
    assume(policy != "namm" or update_interval % 16 == 0)
    shape = LayerShape(batch=2, heads=4, kv_heads=2, dim=8, dtype=dtype)
    pruning = Pruning(make(policy), update_interval, budget)
    layer = PrunedLayer(pruning, 0)
    key = torch.randn(2, 2, seen, 8, dtype=dtype)
    layer.update(key, key)
    layer.attend(torch.randn(2, 4, seen, 8, dtype=dtype), key, key, None, 0.3)
    assert layer.bytes() == held(shape, pruning, seen).total
    assert layer.peak_bytes == peak(shape, pruning, seen).total
    assert layer.full_bytes() == shape.full_bytes(seen)
    layer.update(key[:, :, :1], key[:, :, :1])
    layer.attend(torch.randn(2, 4, 1, 8, dtype=dtype), key[:, :, :1], key[:, :, :1], None, 0.3)
    assert layer.bytes() == held_next(shape, pruning, seen).total


@pytest.mark.parametrize("kept", [None, 1.0])
def test_without_eviction_the_cache_is_the_full_one_and_some_state(kept):
    shape = LayerShape(1, 8, 8, 64, torch.float32)
    pruning = Pruning(make("namm"), 512, kept)
    found = held(shape, pruning, 4096)
    assert found.tokens == 8 * ((4096 + 64) * (2 * 64 * 4 + 4) + 16)
    assert found.state == 8 * 4096 * 17 * 4 + 8 * (16 + 16) * (64 * 4 + 4)


@pytest.mark.parametrize(("heads", "share"), [(32, 0.2735), (64, 0.2775)])
def test_a_quarter_of_16k_tokens_takes_less_than_three_tenths_of_the_bytes(heads, share):
    shape = LayerShape(1, heads, 8, 128, torch.bfloat16)
    found = held(shape, Pruning(make("namm"), 512, 0.25), 16385).total / shape.full_bytes(16384)
    assert found == pytest.approx(share, abs=1e-4)

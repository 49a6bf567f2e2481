"""Budgets by layer: what each layer of a model holds, and that the whole stays what it was."""

from dataclasses import replace

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Gemma3TextConfig

from transfer import attach
from transfer.cache import footprint
from transfer.cache.cache import PrunedCache
from transfer.cache.equal import at_equal_bytes, at_equal_tokens, foreseen
from transfer.cache.footprint import LayerShape
from transfer.cache.policy import Depth, Pruning
from transfer.errors import UserError
from transfer.policies import get_policy
from transfer.policies.pyramidkv import PyramidKV

IDS = torch.randint(3, 97, (2, 120), generator=torch.Generator().manual_seed(1))


@given(
    layers=st.integers(1, 40),
    budget=st.integers(1, 500) | st.floats(0.01, 1.0),
    seen=st.integers(1, 2000),
    beta=st.integers(1, 50),
    observe=st.integers(1, 64),
    keep_recent=st.integers(0, 40),
)
def test_all_layers_hold_what_they_would_under_an_even_budget(
    layers, budget, seen, beta, observe, keep_recent
):
    if isinstance(budget, int):
        keep_recent = min(keep_recent, budget)
    policy = PyramidKV(observe=observe, beta=beta)
    pruning = Pruning(policy, 16, budget, keep_recent=keep_recent)
    even = pruning.tokens(seen)
    own = [pruning.tokens(seen, Depth(place, layers)) for place in range(layers)]
    assert sum(own) == layers * even
    assert own == sorted(own, reverse=True)
    assert min(own) >= min(even, max(observe, pruning.protected))
    if even < seen:
        assert max(own) <= seen
    if beta == 1:
        assert own == [even] * layers


@pytest.mark.parametrize(("budget", "held"), [(24, [38, 24, 10]), (0.2, [38, 24, 10])])
def test_layers_of_a_model_hold_a_pyramid_whether_it_has_a_cache_or_not(budget, held):
    model = tiny.llama(layers=3)
    asked = {"update_interval": 40, "budget": budget, "observe": 9}
    with attach(model, "pyramidkv", **asked) as memory, torch.no_grad():
        cache = memory.new_cache()
        logits = model(IDS, cache=cache).logits
        # So what holds for an even budget holds for the whole.
        shape = LayerShape.of(model.config, torch.float32, batch=2)
        assert cache.bytes() == 3 * footprint.held(shape, memory.pruning, 120).total
        assert cache.peak_bytes() == 3 * footprint.peak(shape, memory.pruning, 120).total
        assert [layer[0] for layer in cache.kept()] == [[tokens] * 2 for tokens in held]
        pieces = memory.new_cache()
        parts = [model(piece, cache=pieces).logits for piece in IDS.split(37, 1)]
        assert pieces.kept() == cache.kept()
        torch.testing.assert_close(torch.cat(parts, 1), logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model(IDS, use_cache=False).logits, logits)


def test_only_layers_that_are_pruned_take_part():
    kinds = ["sliding_attention", "full_attention"] * 3
    config = Gemma3TextConfig(num_hidden_layers=6, layer_types=kinds)
    cache = PrunedCache(config, Pruning(get_policy("pyramidkv"), 16, 20))
    found = [(layer.index, *layer.depth) for layer in cache.pruned]
    assert found == [(1, 0, 3), (3, 1, 3), (5, 2, 3)]


@pytest.mark.parametrize("budget", [2.5, 0, None, "many"])
def test_a_budget_that_is_none_is_a_sentence(budget, monkeypatch):
    monkeypatch.setattr(PyramidKV, "layer_budget", lambda *args: budget)
    pruning = Pruning(get_policy("pyramidkv"), 16, 20)
    with pytest.raises(UserError, match=r"layer_budget of policy pyramidkv is .*whole number"):
        pruning.tokens(100, Depth(0, 2))


@pytest.mark.parametrize("budget", [24, 60, 0.3])
@pytest.mark.parametrize("tokens", [120, 100])
def test_what_its_layers_hold_is_foreseen_each_at_its_own_peak(budget, tokens):
    model = tiny.llama(layers=4)
    with attach(model, "pyramidkv", 20, budget, observe=9) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(IDS[:1, :tokens], cache=cache)
    held, shape = cache.held(), LayerShape.of(model.config, torch.float32)
    assert shape.layers == 4
    assert foreseen(memory.pruning, "held", [tokens], 4) == pytest.approx(held.mean)
    assert foreseen(memory.pruning, "peak", [tokens], 4) == pytest.approx(held.peak)
    for layer in cache.pruned:
        found = footprint.peak(shape, memory.pruning, tokens, layer.depth).total
        assert found == layer.peak_bytes


def test_equal_at_the_peak_counts_that_layers_reach_theirs_at_different_times():
    like, rule = (Pruning(get_policy(name), 32, 64) for name in ("snapkv", "pyramidkv"))
    found = at_equal_tokens(rule, like, "peak", [256], layers=4)
    assert found.budget < 64
    both = [foreseen(one, "peak", [256], 4) for one in (found, like)]
    assert both[0] == pytest.approx(both[1], abs=1)
    shape = LayerShape(1, 4, 2, 16, torch.float32, layers=4)
    assert at_equal_bytes(replace(rule, budget=500), like, shape, 256).budget == 64
    assert at_equal_bytes(replace(rule, budget=0.9), like, shape, 256).budget < 0.5

"""What is held on average and at most: however tokens come, and whoever they come with."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.attachment.memory import attach
from transfer.cache.cache import PrunedCache
from transfer.cache.held import Held, over_layers
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.evaluation import held as rows
from transfer.policies import get_policy


def states(tokens, batch=1, heads=2):
    torch.manual_seed(tokens)
    return torch.randn(batch, heads, tokens, 8)


def feed(layer, keys, mask=None):
    layer.update(keys, keys)
    layer.attend(keys, keys, keys, mask, 0.35)


@settings(max_examples=8)
@given(
    pieces=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    interval=st.sampled_from([7, 16, 32]),
)
def test_every_token_counts_what_is_there_while_it_attends(pieces, interval):
    keys = states(sum(pieces))
    whole, single = (PrunedLayer(Pruning(tiny.Uneven(), interval), 0) for _ in range(2))
    for piece in keys.split(pieces, 2):
        feed(whole, piece)
    there = []
    for token in keys.split(1, 2):
        before = single.kept()[0] if there else [0, 0]
        there.append(sum(before) / 2 + 1)
        feed(single, token)
    for layer in (whole, single):
        [held] = layer.held()
        assert held.tokens == len(there)
        assert held.token_steps == pytest.approx(sum(there), rel=1e-12)
        assert held.peak == max(there)


def test_of_layers_that_run_elsewhere_nothing_is_counted():
    keys = states(50)
    cache = PrunedCache(tiny.llama().config, Pruning(tiny.Uneven(), 16), local={1})
    assert cache.held() == Held()
    feed(cache.pruned[1], keys)
    assert cache.held() == cache.pruned[1].held()[0] != Held()
    row = rows.held(cache)
    assert (row["tokens"], row["held_mean"]) == (50, cache.held().mean)
    assert row["kept_tokens"] == sum(cache.pruned[1].kept()[0]) / 2


def test_bytes_are_those_after_each_token():
    layer, after = PrunedLayer(Pruning(get_policy("full"), 64), 0), []
    for token in states(150).split(1, 2):
        feed(layer, token)
        after.append(layer.bytes())
    assert layer.held()[0].byte_steps == sum(after)
    # Of many at once they grow evenly.
    grown = Held().followed_by(4, 0, 100, 180)
    assert grown.mean_bytes == (120 + 140 + 160 + 180) / 4
    assert grown.mean == (1 + 2 + 3 + 4) / 4
    assert Held() == Held().followed_by(0, 5, 7, 9)


def test_company_and_padding_change_nothing():
    keys = states(100, batch=2)
    mask = torch.ones(2, 100, dtype=torch.bool)
    mask[1, :37] = False
    together = PrunedLayer(Pruning(tiny.Uneven(), 16), 0)
    feed(together, keys, mask)
    first, second = together.held()
    for held, own in ((first, keys[:1]), (second, keys[1:, :, 37:])):
        alone = PrunedLayer(Pruning(tiny.Uneven(), 16), 0)
        feed(alone, own)
        [expected] = alone.held()
        assert (held.tokens, held.token_steps) == (expected.tokens, expected.token_steps)
        assert held.peak == expected.peak
    together.batch_select_indices(torch.tensor([1, 1, 0]))
    assert together.held() == [second, second, first]


def test_a_call_that_is_taken_back_has_held_nothing():
    layer = PrunedLayer(Pruning(tiny.Uneven(), 16), 0, alone=False)
    feed(layer, states(40))
    layer.settle()
    before = layer.held()
    feed(layer, states(30))
    assert layer.held() != before
    layer.restore()
    assert layer.held() == before


def test_a_cache_averages_tokens_over_layers_and_adds_their_bytes():
    model, ids = tiny.llama(layers=2), torch.randint(3, 97, (2, 80))
    with attach(model, tiny.Uneven(), update_interval=16) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids, cache=cache)
    one, other = (layer.held()[1] for layer in cache.pruned)
    assert one.token_steps != other.token_steps
    found = cache.held(1)
    assert found == over_layers([one, other])
    assert found.mean == pytest.approx((one.mean + other.mean) / 2)
    assert found.mean_bytes == pytest.approx(one.mean_bytes + other.mean_bytes)
    assert found.peak == (one.peak + other.peak) / 2

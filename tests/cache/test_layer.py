"""Life cycle, bookkeeping and refusals of a pruned layer and its cache."""

from copy import deepcopy

import families
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.attachment.memory import attach
from transfer.cache.cache import PrunedCache
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.policies import get_policy


def test_steps_in_inference_mode_and_outside_go_on_from_each_other():
    model, ids = tiny.llama(layers=2), torch.randint(3, 97, (2, 60))
    with attach(model, "h2o", update_interval=16, budget=8) as memory:
        mixed, plain = memory.new_cache(), memory.new_cache()
        for number, piece in enumerate(ids.split(8, 1)):
            with torch.inference_mode(number % 2 == 0), torch.no_grad():
                found = model(piece, cache=mixed).logits
            with torch.no_grad():
                assert torch.equal(model(piece, cache=plain).logits, found)


def feed(layer, tokens, batch=1, heads=2, dim=8):
    key = torch.randn(batch, heads, tokens, dim)
    layer.update(key, key)
    return layer.attend(key, key, key, None, 0.35)


def test_unwritten_slots_are_never_read():
    torch.manual_seed(1)
    clean = PrunedLayer(Pruning(tiny.Uneven(), 32), 0)
    torch.manual_seed(1)
    poisoned = PrunedLayer(Pruning(tiny.Uneven(), 32), 0)
    for tokens in (40, 1, 1, 3, 30, 1):
        torch.manual_seed(tokens)
        expected = feed(clean, tokens)
        torch.manual_seed(tokens)
        got = feed(poisoned, tokens)
        assert torch.equal(got, expected)
        store = poisoned.store
        free = torch.ones(len(store.keys), dtype=torch.bool)
        for offset, length in zip(store.offsets, store.lengths):
            free[offset : offset + length] = False
        store.keys[free], store.values[free] = torch.nan, torch.nan


def test_a_cache_filled_in_inference_mode_can_be_used_outside():
    layers = [PrunedLayer(Pruning(get_policy("h2o"), 16, 4), 0) for _ in range(2)]
    key = torch.randn(2, 2, 40, 8)

    def step(layer, piece):
        layer.update(key[:, :, piece], key[:, :, piece])
        return layer.attend(key[:, :, piece], key[:, :, piece], key[:, :, piece], None, 0.3)

    with torch.inference_mode():
        step(layers[0], slice(0, 20))
        layers[0].batch_select_indices(torch.tensor([0, 1]))
        copied = deepcopy(layers[0])
    assert torch.equal(step(copied, slice(20, 40)), step(deepcopy(layers[0]), slice(20, 40)))
    mixed = step(layers[0], slice(20, 40))
    step(layers[1], slice(0, 20))
    assert torch.equal(mixed, step(layers[1], slice(20, 40)))


@pytest.mark.parametrize("sinks", [0, 2])
def test_padding_on_the_right_makes_no_sinks_and_no_update(sinks):
    layer = PrunedLayer(Pruning(get_policy("recency", sinks=sinks), 32, 8), 0)
    key = torch.randn(2, 1, 32, 8)
    valid = torch.ones(2, 32, dtype=torch.bool)
    valid[1, 20:] = False
    layer.update(key, key)
    layer.attend(key, key, key, valid, 0.3)
    assert layer.kept() == [[8], [20]]
    key = torch.randn(2, 1, 12, 8)
    layer.attend(key, key, key, None, 0.3)
    newest = list(range(44 - 8 + sinks, 44))
    assert layer.positions()[1].tolist() == [*range(sinks), *newest]
    assert layer.kept() == [[8 + 12], [8]]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda cache: cache.crop(-3), "cannot be rolled back"),
        (lambda cache: cache.offload(0, False), "stays on its device"),
        (lambda cache: cache.layers[0].prefetch(), "stays on its device"),
    ],
)
@pytest.mark.parametrize("family", ["llama", "falcon_h1"])
def test_what_cannot_work_is_refused_with_a_sentence(call, sentence, family):
    cache = PrunedCache(families.build(family).config, Pruning(tiny.Uneven(), 32))
    with pytest.raises(UserError, match=sentence):
        call(cache)


def test_cropping_nothing_is_allowed():
    cache = PrunedCache(tiny.llama().config, Pruning(tiny.Uneven(), 32))
    cache.crop(0)
    assert not cache.is_croppable


def test_a_stock_cache_is_refused():
    model = tiny.llama()
    ids = torch.randint(3, 97, (1, 20))
    mask = torch.ones_like(ids)
    with (
        attach(model, tiny.Uneven(), update_interval=32),
        pytest.raises(UserError, match=r"cache=memory.new_cache\(\)"),
    ):
        model.generate(ids, attention_mask=mask, max_new_tokens=8)


@pytest.mark.parametrize("policy", ["h2o", "recency", "full"])
def test_reported_bytes_are_the_bytes_of_the_tensors(policy):
    budget = None if policy == "full" else 8
    layer = PrunedLayer(Pruning(get_policy(policy), 32, budget), 0)
    peak = 0
    for tokens in (20, 30, 1, 60):
        feed(layer, tokens, batch=2)
        held = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in vars_of(layer)
        }
        assert layer.bytes() == sum(held.values())
        peak = max(peak, layer.bytes())
    assert layer.peak_bytes >= peak
    assert layer.full_bytes() == 2 * 2 * 111 * (8 + 8) * 4


def vars_of(layer):
    """Every tensor reachable from the attributes of the layer, its store and its queries."""
    held = [layer.store, *([layer.now.log] if layer.now.log else [])]
    found = [value for part in held for value in vars(part).values()]
    return [value for value in found if isinstance(value, torch.Tensor)]


def test_a_copy_goes_on_alone_under_the_same_policy():
    model, ids = tiny.llama(), torch.randint(3, 97, (1, 60))
    with attach(model, "h2o", update_interval=16, budget=8) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids[:, :40], cache=cache)
        copy, held = deepcopy(cache), [p.tolist() for p in cache.pruned[0].positions()]
        expected = model(ids[:, 40:], cache=copy).logits
        assert [p.tolist() for p in cache.pruned[0].positions()] == held
        assert torch.equal(model(ids[:, 40:], cache=cache).logits, expected)
    for one, other in zip(cache.pruned, copy.pruned):
        assert one.pruning is other.pruning
        assert not {t.data_ptr() for t in one.tensors()} & {t.data_ptr() for t in other.tensors()}


@given(pieces=st.lists(st.integers(1, 70), min_size=1, max_size=6))
def test_the_cache_never_holds_more_than_budget_and_one_window(pieces):
    layer = PrunedLayer(Pruning(get_policy("recency"), 32, 12), 0)
    longest = []
    original = layer._prune
    layer._prune = lambda due: (longest.append(layer.store.longest), original(due))
    for tokens in pieces:
        feed(layer, tokens)
    longest.append(layer.store.longest)
    assert max(longest) <= 12 + 32
    # Both heads' room is for budget and window, however long the prompt was.
    assert layer.peak_bytes <= 2 * ((12 + 32 + 32) * (8 + 8 + 1) * 4 + 16)


def test_positions_go_on_after_eviction():
    layer = PrunedLayer(Pruning(get_policy("recency", sinks=2), 16, 6), 0)
    feed(layer, 35)
    assert layer.get_seq_length() == 35
    assert [p.tolist() for p in layer.positions()] == [[0, 1, 28, 29, 30, 31, 32, 33, 34]] * 2
    assert layer.kept() == [[9, 9]]


def test_a_fraction_is_not_rounded_up_past_itself():
    tokens = [Pruning(get_policy("recency"), 32, b).tokens(100) for b in (0.07, 0.28, 0.55)]
    assert tokens == [7, 28, 55]


@pytest.mark.parametrize(("budget", "kept"), [(7, 7), (0.25, 16), (1.0, 64), (500, 64)])
def test_budget_in_tokens_or_as_a_fraction_of_what_was_seen(budget, kept):
    layer = PrunedLayer(Pruning(get_policy("l2_norm"), 32, budget), 0)
    feed(layer, 64)
    assert layer.kept() == [[kept, kept]]


def test_padding_does_not_count_towards_a_fraction_nor_an_update():
    layer = PrunedLayer(Pruning(get_policy("recency"), 32, 0.5), 0)
    key = torch.randn(2, 2, 76, 8)
    valid = torch.ones(2, 76, dtype=torch.bool)
    valid[0, :12] = False
    layer.update(key, key)
    layer.attend(key, key, key, valid, 0.3)
    assert layer.kept() == [[32, 32], [32 + 12, 32 + 12]]
    assert layer.positions()[0].tolist() == [*range(12, 16), *range(76 - 28, 76)]
    assert layer.positions_of(1)[0].tolist() == [*range(4), *range(64 - 28, 76)]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"policy": "h2o"}, "give it a budget"),
        ({"policy": "recency", "budget": 8, "update_interval": 0}, "use a positive number"),
        ({"policy": "h2o", "budget": 8, "update_interval": -20}, "use a positive number"),
        ({"policy": "recency", "budget": 0}, "keeps nothing"),
        ({"policy": "recency", "budget": -0.5}, "keeps nothing"),
        ({"policy": "recency", "budget": float("nan")}, "keeps nothing"),
        ({"policy": "recency", "budget": 2.5}, "neither a fraction nor whole"),
        ({"policy": "full", "budget": 8}, "keeps everything"),
        ({"policy": "recency", "budget": 8, "eviction": "soft"}, "exact or reference"),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence):
    policy = get_policy(settings.pop("policy"))
    with pytest.raises(UserError, match=sentence):
        Pruning(policy, **settings)

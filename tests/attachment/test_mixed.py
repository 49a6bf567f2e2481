"""Models of which only some layers have full attention: those are pruned, the others left alone."""

from functools import cache as remembered

import families
import pytest
import torch
from transformers import DynamicCache

from transfer import attach, check_adapter
from transfer.attachment.adapter import Adapter
from transfer.attachment.memory import Memory
from transfer.cache.hybrid import PrunedHybridLayer
from transfer.cache.policy import Pruning
from transfer.cache.stock import described, held_bytes
from transfer.errors import UserError
from transfer.policies.full import Full

WINDOW = families.SIZES["sliding_window"]
#: What the layers have that are left alone, in order (of the layers pruned: nothing).
MIXED = {
    "gemma3_text": [f"an attention window of {WINDOW} tokens"] * 2,
    "llama4_text": [f"an attention window of {WINDOW} tokens"] * 3,
    "bamba": ["a recurrent state"] * 2,
    "falcon_h1": [],
}
#: More tokens than a window or a chunk has, from the first call on; then over a chunk's border.
CALLS = [WINDOW + 4, WINDOW - 7, 9, 1]
TOKENS = sum(CALLS)

pytestmark = pytest.mark.filterwarnings("ignore")


@remembered
def build(family):
    return families.build(family).double()


def inputs(padding=0):
    ids = torch.randint(3, 97, (2, TOKENS), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    return ids, mask, (mask.cumsum(1) - 1).clamp(0)


@torch.no_grad()
def run(model, cache, calls=CALLS, padding=0):
    ids, mask, positions = inputs(padding)
    out, at = [], 0
    for new in calls:
        part = slice(at, at + new)
        at += new
        given = {"attention_mask": mask[:, :at], "position_ids": positions[:, part]}
        out.append(model(ids[:, part], **given, cache=cache).logits)
    return torch.cat(out, 1)[mask.bool()]


def held(layer):
    named = ("conv_states", "recurrent_states")
    states = [state for name in named for state in getattr(layer, name, {}).values()]
    return states or [layer.keys, layer.values]


@pytest.mark.parametrize("family", MIXED)
def test_nothing_evicted_is_the_stock_model_and_the_others_hold_the_same_bits(family, padding=20):
    model = build(family)
    stock = DynamicCache(config=model.config)
    expected = run(model, stock, padding=padding)
    with attach(model, "full") as memory:
        cache = memory.new_cache()
        found = run(model, cache, padding=padding)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    first = cache.pruned[0].index
    for index, layer in enumerate(stock.layers):
        if cache.layers[index] in cache.left_alone:
            for ours, theirs in zip(held(cache.layers[index]), held(layer), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
                # Nothing that was pruned lies before it.
                assert index > first or torch.equal(ours, theirs)


@pytest.mark.parametrize("family", MIXED)
def test_pruned_is_masked_on_the_layers_with_full_attention(family):
    ids, _, _ = inputs()
    check = check_adapter(build(family), inputs={"input_ids": ids[:, :80]})
    assert check.ok, str(check)
    assert check.layers - check.pruned_layers == len(MIXED[family])
    assert max(check.pruned_error, check.full_error, check.step_error) < 1e-12


@pytest.mark.parametrize("family", MIXED)
def test_how_a_prompt_is_cut_changes_nothing(family):
    model = build(family)
    with attach(model, "h2o", 16, budget=8) as memory:
        caches = memory.new_cache(), memory.new_cache()
        whole = run(model, caches[0], [TOKENS], padding=20)
        cut = run(model, caches[1], padding=20)
    # Norms in single precision.
    torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-5)
    for one, other in zip(*(cache.pruned for cache in caches)):
        assert all(map(torch.equal, one.positions(), other.positions()))


@pytest.mark.parametrize("family", ["gemma3_text", "llama4_text", "falcon_h1"])
def test_generation_goes_over_the_window_as_the_stock_model_does(family):
    model, (ids, _, _) = build(family), inputs()
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "num_beams": 2}
    prompt = ids[:, : WINDOW - 3]
    expected = model.generate(prompt, **settings)
    with attach(model, "full") as memory:
        found = model.generate(prompt, cache=memory.new_cache(), **settings)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("family", MIXED)
def test_the_report_and_the_bytes_are_of_all_layers(family):
    model = build(family)
    stock = DynamicCache(config=model.config)
    run(model, stock)
    with attach(model, "recency", 16, budget=8) as memory:
        cache = memory.new_cache()
        run(model, cache)
    report = memory.report()
    assert report.others == MIXED[family] == [described(layer) for layer in cache.left_alone]
    assert report.pruned_layers == 4 - len(MIXED[family])
    elsewhere = sum(held_bytes(layer) for layer in cache.left_alone)
    assert (elsewhere > 0) == bool(MIXED[family])
    pruned = sum(layer.bytes() for layer in cache.pruned)
    assert report.bytes == cache.bytes() == pruned + elsewhere
    # After a call of one token its windows are only themselves.
    assert report.full_bytes == sum(map(held_bytes, stock.layers)) > report.bytes
    assert report.peak_bytes >= report.bytes
    others = len(MIXED[family])
    said = f"{4 - others} of 4 layers pruned; the others have {' '.join(MIXED[family][:1])}"
    assert (f"{said} ({others})\n" in str(report)) == (others > 0)


def test_a_window_lets_go_of_the_rest_of_a_long_call():
    model = build("gemma3_text")
    with attach(model, "recency", 16, budget=8) as memory:
        cache = memory.new_cache()
        run(model, cache, [TOKENS])
    for layer in cache.left_alone:
        heads, dim = layer.keys.shape[1], layer.keys.shape[3]
        assert held_bytes(layer) == 2 * 2 * heads * (WINDOW - 1) * dim * 8


@pytest.mark.parametrize("family", ["bamba", "falcon_h1"])
def test_a_cache_with_states_starts_again_as_a_new_one(family):
    model = build(family)
    with attach(model, "h2o", 16, budget=8) as memory:
        cache = memory.new_cache()
        first = run(model, cache)
        cache.reset()
        assert cache.bytes() == cache.peak_bytes() == 0
        assert torch.equal(run(model, cache), first)


@pytest.mark.parametrize("how", ["batch_repeat_interleave", "batch_select_indices"])
def test_states_are_not_left_behind_when_sequences_are_chosen(how):
    model = build("falcon_h1")
    with attach(model, "h2o", 16, budget=8) as memory:
        cache = memory.new_cache()
        run(model, cache)
        with pytest.raises(UserError, match="recurrent state, of which sequences cannot be chosen"):
            getattr(cache, how)(2 if how == "batch_repeat_interleave" else torch.tensor([1]))
        cache.reorder_cache(torch.tensor([1, 0]))
    assert not cache.is_compileable
    layer = cache.layers[0]
    assert isinstance(layer, PrunedHybridLayer)
    assert layer.recurrent_states[0].shape[0] == layer.sequences == 2


def test_attention_that_serves_several_layers_is_refused_before_it_is_run():
    model = families.build("zamba")
    with pytest.raises(UserError, match="zamba shares one attention among several of its layers"):
        attach(model, "full")
    # As a family would be that nobody named.
    anonymous = Adapter(model)
    with (
        Memory(anonymous, Pruning(Full())) as memory,
        torch.no_grad(),
        pytest.raises(UserError, match="ZambaAttention attends for no layer of its own"),
    ):
        model(torch.zeros(1, 4, dtype=torch.long), cache=memory.new_cache())


@torch.no_grad()
@pytest.mark.parametrize("family", MIXED)
def test_average_bytes_are_of_all_layers_as_those_at_the_end_are(family):
    model, (ids, _, _) = build(family), inputs()
    with attach(model, "recency", 32, budget=24) as memory:
        each, at_once, after = memory.new_cache(), memory.new_cache(), []
        for token in ids.split(1, 1):
            model(token, cache=each)
            after.append(each.bytes() / 2)
        model(ids, cache=at_once)
    for cache, near in ((each, 0.01), (at_once, 0.1)):
        # Of many tokens at once bytes are taken to grow evenly.
        assert cache.held().mean_bytes == pytest.approx(sum(after) / TOKENS, rel=near)

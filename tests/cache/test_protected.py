"""Tokens that stay whatever a policy says: recent ones, sinks, and those that are named."""

import math

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer import NAMM
from transfer.attachment.memory import attach
from transfer.cache import footprint
from transfer.cache.cache import PrunedCache
from transfer.cache.eviction import select
from transfer.cache.footprint import LayerShape
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.cache.protected import Protected
from transfer.errors import UserError
from transfer.policies import POLICIES, get_policy

INTERVAL, BUDGET = 16, 12
RULES = [name for name in POLICIES.built_in if name not in ("full", "namm")]


def policy(name):
    return (
        get_policy(name, namm=NAMM.from_pretrained("recall"))
        if name == "namm"
        else get_policy(name)
    )


def fed(pruning, calls, protected=None, batch=2, padding=0):
    """A layer that some calls went through, the same random tokens however they are cut."""
    layer = PrunedLayer(pruning, 0)
    if protected is not None:
        layer.protected = layer.protecting(Protected.of(protected, batch))
    states = torch.randn(batch, 2, sum(calls), 8, generator=torch.Generator().manual_seed(5))
    valid = torch.arange(sum(calls)) >= torch.tensor([padding, *[0] * (batch - 1)])[:, None]
    start = 0
    for tokens in calls:
        some = states[:, :, start : start + tokens]
        layer.attend(some, some, some, valid[:, start : start + tokens] if padding else None, 0.4)
        start += tokens
    return layer


def held(layer):
    return [tokens.tolist() for tokens in layer.positions()]


@given(
    seed=st.integers(0, 999),
    budget=st.none() | st.integers(1, 12),
    eviction=st.sampled_from(["exact", "reference"]),
    infinite=st.booleans(),
)
def test_selection_holds_what_is_protected_within_the_budget(seed, budget, eviction, infinite):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-3, 3, (2, 2, 9), generator=generator).float()
    if infinite:
        scores[scores == 2] = torch.inf
    valid = torch.arange(9) >= torch.randint(0, 6, (2, 2, 1), generator=generator)
    protected = torch.rand(2, 2, 9, generator=generator) < 0.3
    limit = None if budget is None else torch.full((2,), budget)
    free = select(scores, valid, 0.0, limit, eviction)
    none = torch.zeros_like(protected)
    assert torch.equal(select(scores, valid, 0.0, limit, eviction, none), free)
    if budget is not None:
        fits = (protected & valid).sum(-1, keepdim=True) < budget
        protected &= fits
    kept = select(scores, valid, 0.0, limit, eviction, protected)
    assert kept[protected & valid].all() and not kept[~valid].any()
    if budget is not None:
        assert torch.equal(kept.sum(-1), valid.sum(-1).clamp(max=budget))
    elif eviction == "exact":
        assert torch.equal(kept, free | (protected & valid))
    else:
        above = select(scores, valid, 0.0, None, "exact") | (protected & valid)
        most = above.sum(-1).amax(1, keepdim=True)
        assert torch.equal(kept.sum(-1), torch.minimum(most, valid.sum(-1)))
    # Places that are left go to the best of the others, the newer of equals.
    order = scores + torch.arange(9) / 100
    others = ~protected & valid & (torch.arange(9) < 8)
    best = order.masked_fill(~(others & kept), torch.inf).amin(-1)
    assert (best >= order.masked_fill(~(others & ~kept), -torch.inf).amax(-1)).all()


@pytest.mark.parametrize("name", [*RULES, "namm"])
@settings(max_examples=8)
@given(
    keep_recent=st.integers(0, 7),
    sinks=st.integers(0, 4),
    budget=st.sampled_from([BUDGET, 0.2]),
    named=st.lists(st.integers(-1, 60), min_size=2, max_size=2),
)
def test_every_policy_holds_them_within_its_budget(name, keep_recent, sinks, budget, named):
    pruning = Pruning(policy(name), INTERVAL, budget, keep_recent=keep_recent, sinks=sinks)
    rows = torch.tensor([[named[0], -1], named])
    calls = [INTERVAL * 2 + 15, 1, INTERVAL]
    layer = fed(pruning, calls, rows)
    seen = sum(calls)
    most = max(pruning.tokens(seen), pruning.protected + 2) if budget < 1 else budget
    for row, tokens in enumerate(held(layer)):
        own = set(rows[row // 2].tolist()) - {-1}
        newest = range(seen - keep_recent, seen)
        assert own | set(range(sinks)) | set(newest) <= set(tokens)
        assert len(tokens) <= most and (budget < 1 or len(tokens) == budget)


@pytest.mark.parametrize("name", [*RULES, "namm"])
def test_without_protection_or_of_nothing_a_policy_keeps_what_it_kept(name):
    plain = fed(Pruning(policy(name), INTERVAL, BUDGET), [70, 1, 25])
    same = Pruning(policy(name), INTERVAL, BUDGET, keep_recent=1)
    assert held(fed(same, [70, 1, 25], [[-1], [-1]])) == held(plain)


@pytest.mark.parametrize("name", [name for name in (*RULES, "namm") if name != "recency"])
@pytest.mark.parametrize("eviction", ["exact", "reference"])
def test_a_policy_that_may_keep_nothing_else_is_a_window_with_sinks(name, eviction):
    pruning = Pruning(policy(name), INTERVAL, BUDGET, eviction, keep_recent=BUDGET - 3, sinks=3)
    window = Pruning(get_policy("recency", sinks=3), INTERVAL, BUDGET)
    calls = [40, 1, 1, 30, 24]
    assert held(fed(pruning, calls)) == held(fed(window, calls))
    # First tokens are those of a sequence, wherever its padding ends.
    assert held(fed(pruning, calls, padding=7)) == held(fed(window, calls, padding=7))


def test_a_policy_of_its_own_threshold_keeps_them_beside_the_others():
    free, kept = (
        fed(Pruning(tiny.Uneven(), INTERVAL, keep_recent=recent, sinks=sinks), [64], named)
        for recent, sinks, named in ((0, 0, None), (6, 3, [[20, 21], [-1, 33]]))
    )
    for row, (before, after) in enumerate(zip(held(free), held(kept))):
        named = [20, 21] if row < 2 else [33]
        # Each of the four updates protected its own newest, which leave when others have come.
        assert after == sorted({*before, *range(3), *named, *range(58, 64)})


def test_the_reference_rule_fills_heads_up_to_the_one_that_keeps_most_protected_ones_counted():
    pruning = Pruning(tiny.Uneven(), INTERVAL, eviction="reference", keep_recent=9)
    [first, second, *_] = held(fed(pruning, [INTERVAL]))
    assert len(first) == len(second) and {*range(7, 16)} <= {*first} & {*second}


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_it_does_not_matter_how_the_tokens_come(cuts):
    pruning = Pruning(get_policy("h2o"), INTERVAL, BUDGET, keep_recent=7, sinks=1)
    rows = [[3, 9], [-1, 4]]
    whole = fed(pruning, [sum(cuts)], rows, padding=2)
    assert held(fed(pruning, cuts, rows, padding=2)) == held(whole)


def test_positions_are_columns_of_the_input_and_padding_holds_nothing():
    layer = fed(
        Pruning(get_policy("recency", sinks=0), INTERVAL, 4), [20, 30], [[1, 9], [0, 9]], padding=5
    )
    first, second = layer.positions_of(0)[0].tolist(), layer.positions_of(1)[0].tolist()
    assert first[0] == 9 and 1 not in first
    assert second[:2] == [0, 9]


def test_sinks_that_do_not_fit_beside_what_is_protected_leave_the_first_of_them():
    pruning = Pruning(get_policy("recency", sinks=4), INTERVAL, 6, keep_recent=4)
    assert held(fed(pruning, [32]))[0] == [0, 1, 28, 29, 30, 31]


@pytest.mark.parametrize("tokens", [40, 64, 100])
def test_the_footprint_of_a_fraction_below_what_is_protected_is_that_of_the_tensors(tokens):
    pruning = Pruning(get_policy("h2o"), INTERVAL, 0.05, keep_recent=9, sinks=2)
    shape = LayerShape(batch=2, heads=2, kv_heads=2, dim=8, dtype=torch.float32)
    assert footprint.held(shape, pruning, tokens).total == fed(pruning, [tokens]).bytes()


@given(share=st.sampled_from([0.05, 0.1, 0.3]), seen=st.integers(1, 400))
def test_a_fraction_is_never_less_than_what_is_protected(share, seen):
    pruning = Pruning(get_policy("h2o"), 16, share, keep_recent=8, sinks=2)
    assert pruning.tokens(seen) == max(10, math.ceil(round(share * seen, 9)))
    assert Pruning(get_policy("h2o"), 16, share).tokens(seen) == math.ceil(round(share * seen, 9))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"keep_recent": 13}, "keep_recent 13 and sinks 0 protect 13 tokens, .* budget is 12; rai"),
        ({"sinks": 12}, "keep_recent 0 and sinks 12 protect 13 tokens, the newest among them"),
        ({"keep_recent": 9, "sinks": 4}, "keep_recent 9 and sinks 4 protect 13 tokens"),
        ({"keep_recent": -1}, "keep_recent is -1; use 0 to "),
        ({"sinks": 10**12}, "sinks is 1000000000000; use 0 to "),
        ({"policy": get_policy("full"), "budget": None, "sinks": 1}, "keeps everything; leave sin"),
    ],
)
def test_more_than_the_budget_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(UserError, match=f"^(policy full )?{sentence}"):
        Pruning(**{"policy": get_policy("h2o"), "update_interval": 16, "budget": 12, **settings})


@pytest.fixture
def cache():
    pruning = Pruning(get_policy("h2o"), INTERVAL, 8, keep_recent=3, sinks=1)
    return PrunedCache(tiny.llama(layers=2).config, pruning)


def run(cache, tokens, batch=2):
    """Through both layers, as a model would."""
    states = torch.randn(batch, 8, tokens, 8)
    for layer in cache.pruned:
        layer.attend(states, states[:, :2], states[:, :2], None, 0.4)
        layer.settle()


def test_tokens_are_protected_as_they_come_and_follow_their_sequences(cache):
    run(cache, 5)
    cache.protect([[4, -1], [-1, -1]])
    run(cache, 30)
    cache.protect(torch.tensor([[36], [37]]))
    run(cache, 2)
    run(cache, 60)
    cache.batch_select_indices(torch.tensor([False, True]))
    cache.batch_repeat_interleave(2)
    cache.protect([[98], [-1]])
    run(cache, 40)
    for layer in cache.pruned:
        one, other = (layer.positions_of(row)[0].tolist() for row in range(2))
        assert {37, 98} <= {*one} and 37 in other and not {4, 36} & {*one, *other}
    cache.reset()
    run(cache, 200, batch=1)
    assert not {4, 36, 37, 98} & {*cache.pruned[0].positions_of(0)[0].tolist()}


def test_an_empty_cache_knows_its_batch_from_what_is_protected(cache):
    cache.protect([[0, 12], [13, -1]])
    cache.reorder_cache(torch.tensor([1, 0]))
    with pytest.raises(UserError, match="holds 2 sequences and was given 3"):
        cache.check_batch(3)
    run(cache, 64)
    assert 13 in cache.pruned[1].positions_of(0)[1].tolist()
    assert 12 in cache.pruned[1].positions_of(1)[1].tolist()


@pytest.mark.parametrize(
    ("positions", "sentence"),
    [
        ([[3], [20]], "token 3 of sequence 0 has left layer 0 already; protect it before the upda"),
        (
            [[-1] * 5, [50, 51, 52, 53, 54]],
            r"sequence 1 would have 6 protected positions, beside 4 tokens that stay anyway \(keep_"
            r"recent 3, sinks 1, the newest\), in a budget of 8; raise the budget or protect few",
        ),
        ([[50]], "positions are of 1 sequences and this cache is of 2; give a row for each, -1"),
        (
            torch.tensor([50, 51]),
            r"positions is \[2\] of torch.int64; use whole numbers \[sequences, n\]",
        ),
        (
            torch.tensor([[50.0], [51.0]]),
            r"positions is \[2, 1\] of torch.float32; use whole numbers",
        ),
        (
            torch.tensor([[True], [False]]),
            r"positions is \[2, 1\] of torch.bool; use whole numbers",
        ),
        ([[50], [51, 52]], r"positions is \[\[50\], \[51, 52\]\] \(a list\); use whole numbers"),
        ([[50], [-2]], "a position is -2; use whole numbers"),
        ([[50], [10**15]], "a position is 1000000000000000; use whole numbers"),
    ],
)
def test_what_cannot_be_protected_is_one_sentence_and_changes_nothing(cache, positions, sentence):
    run(cache, 40)
    cache.protect([[39, 39], [39, -1]])
    with pytest.raises(UserError, match=f"^{sentence}"):
        cache.protect(positions)
    for layer in cache.pruned:
        assert layer.protected.columns.tolist() == [[39], [39]]


@pytest.mark.parametrize("positions", [None, "all", 3, [["first"]], [None, [2]]])
def test_what_is_no_positions_is_one_sentence(positions):
    with pytest.raises(UserError, match=r"; use whole numbers \[sequences, n\] from 0 on, -1 for"):
        Protected.of(positions, 1)


def test_nothing_is_protected_by_rows_without_positions(cache):
    for none in ([[], []], [[-1], [-1]]):
        cache.protect(none)
    run(cache, 64)
    assert cache.pruned[0].protected.columns.shape == (2, 0)
    assert held(cache.pruned[0])[0][-3:] == [61, 62, 63]


def test_sinks_and_what_is_named_twice_count_once(cache):
    run(cache, 4)
    cache.protect([[0, 1, 2, 3], [0, 0, -1, 1]])
    cache.protect([[1, 2, 3, 40], [2, 3, 3, 40]])
    run(cache, 92)
    assert held(cache.pruned[0])[0] == [0, 1, 2, 3, 40, 93, 94, 95]


@pytest.mark.parametrize(
    ("settings", "pruning"),
    [
        ({"policy": "h2o", "keep_recent": 3, "sinks": 2}, {"keep_recent": 3, "sinks": 2}),
        ({"policy": get_policy("recency"), "sinks": 2}, {"sinks": 2}),
        ({"policy": "recency", "keep_recent": 3, "sinks": 2}, {"keep_recent": 3}),
    ],
)
def test_attach_gives_a_policy_its_own_sinks_and_protects_those_of_others(settings, pruning):
    with attach(tiny.llama(layers=1), budget=8, **settings) as memory:
        found = memory.pruning
    assert {name: getattr(found, name) for name in ("keep_recent", "sinks")} == {
        "keep_recent": 0, "sinks": 0, **pruning,
    }  # fmt: skip
    sinks = {"h2o": None, "recency": 2}.get(settings["policy"], 4)
    assert getattr(found.policy, "sinks", None) == sinks


@torch.no_grad()
def test_instruction_tokens_that_are_protected_before_the_prompt_survive_generation():
    model, prompt = tiny.llama(), torch.randint(3, 97, (2, 90))
    mask = torch.ones_like(prompt)
    mask[1, :20] = 0
    with attach(model, "h2o", update_interval=16, budget=12, keep_recent=4) as memory:
        cache = memory.new_cache()
        cache.protect([[2, 3, 4, 50], [22, 23, 24, -1]])
        model.generate(prompt, attention_mask=mask, cache=cache, max_new_tokens=40, do_sample=False)
        for layer in range(3):
            for row, own in enumerate(({2, 3, 4, 50}, {22, 23, 24})):
                assert all(own <= {*head.tolist()} for head in memory.kept(layer)[row])
                assert all(len(head) <= 12 + 15 for head in memory.kept(layer)[row])

"""Heads of a layer that share a budget, against a plain reference and through whole layers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer import NAMM
from transfer.cache.eviction import select
from transfer.cache.footprint import LayerShape, held, peak
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.policies import POLICIES, get_policy

HEADS, TOKENS = 3, 8


def reference(scores, valid, budget, floor, protected):
    """The tokens of one sequence that stay, as `(head, token)`; by loops and sorting alone."""
    real = [(h, t) for h in range(HEADS) for t in range(TOKENS) if valid[h][t]]
    always = {(h, t) for h, t in real if protected[h][t] or t == TOKENS - 1}

    def order(place):
        head, token = place
        return place in always, scores[head][token], token, head

    least = max(1, math.ceil(round(floor * budget, 9)))
    sure = set(always)
    for head in range(HEADS):
        own = sorted((place for place in real if place[0] == head), key=order)
        sure |= set(own[max(len(own) - least, 0) :])
    others = sorted((place for place in real if place not in sure), key=order)
    more = max(HEADS * budget - len(sure), 0)
    return sure | set(others[max(len(others) - more, 0) :])


@st.composite
def layers(draw):
    """Two sequences of uneven heads, with few distinct scores, so that ties happen."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    shape = (2, HEADS, TOKENS)
    scores = torch.randint(-3, 4, shape, generator=generator).double()
    scores[scores == 3] = torch.inf
    scores[scores == -3] = -torch.inf
    lengths = torch.randint(0, TOKENS + 1, shape[:2], generator=generator)
    valid = torch.arange(TOKENS) >= TOKENS - lengths[..., None]
    scores[~valid & (torch.rand(shape, generator=generator) < 0.5)] = torch.nan
    protected = (torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.3]))) & valid
    return scores, valid, protected


floors = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0]) | st.floats(0, 1)


def kept_of(layer, budget, floor):
    scores, valid, protected = layer
    given = protected if protected.any() else None
    return select(scores, valid, None, torch.tensor(budget), "exact", given, floor)


def most_protected(layer):
    """A budget is never less than what is protected, the newest among it."""
    _, _, protected = layer
    return (int(protected[..., :-1].sum(-1).max()) + 1) if protected.any() else 1


@settings(max_examples=200)
@given(layer=layers(), floor=floors, budgets=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_a_shared_budget_equals_its_definition(layer, floor, budgets):
    scores, valid, protected = layer
    budgets = [max(budget, most_protected(layer)) for budget in budgets]
    kept = kept_of(layer, budgets, floor)
    for sequence, budget in enumerate(budgets):
        given = scores[sequence].tolist(), valid[sequence].tolist()
        expected = reference(*given, budget, floor, protected[sequence].tolist())
        assert set(map(tuple, kept[sequence].nonzero().tolist())) == expected
        assert len(expected) == min(HEADS * budget, int(valid[sequence].sum()))
        least = valid[sequence].sum(-1).clamp(max=math.ceil(round(floor * budget, 9)))
        assert (kept[sequence].sum(-1) >= least).all()
        assert kept[sequence][protected[sequence]].all()


@given(layer=layers(), floor=floors, budget=st.integers(1, 9))
def test_more_budget_loses_no_token(layer, floor, budget):
    budget = max(budget, most_protected(layer))
    less, more = (kept_of(layer, [each] * 2, floor) for each in (budget, budget + 1))
    assert (more | ~less).all()


@given(layer=layers(), budget=st.integers(1, 9))
def test_with_a_floor_of_the_even_share_or_one_head_nothing_is_shared(layer, budget):
    scores, valid, protected = layer
    budget = torch.tensor([max(budget, most_protected(layer))] * 2)
    given = protected if protected.any() else None
    # What scores infinitely little is the least finite score here.
    scores = scores.clamp(min=-9)
    apart = select(scores, valid, None, budget, "exact", given)
    whole = select(scores, valid, None, budget, "exact", given, 1.0)
    # What a head has no tokens for goes to the others.
    assert (whole | ~apart).all()
    enough = (valid.sum(-1) >= budget[:, None]).all(1)
    assert torch.equal(whole[enough], apart[enough])
    one, few = (slice(None), slice(0, 1)), given if given is None else given[:, :1]
    alone = select(scores[one], valid[one], None, budget, "exact", few, 0.25)
    assert torch.equal(alone, apart[one])


def policy(name):
    return get_policy(name, **({"namm": NAMM.from_pretrained("recall")} if name == "namm" else {}))


def read(pruning, states, calls=None):
    """A layer after keys and queries of `[batch, heads, tokens, dim]`."""
    layer, start = PrunedLayer(pruning, 0), 0
    for tokens in calls or [states.shape[2]]:
        some = states[:, :, start : start + tokens]
        layer.attend(some, some, some, None, 0.4)
        start += tokens
    return layer


def states_of(batch, heads, tokens, dtype=torch.float32):
    generator = torch.Generator().manual_seed(tokens)
    return torch.randn(batch, heads, tokens, 8, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", ["namm", "h2o", "h2o_age", "snapkv", "tova", "fastgen", "l2_norm",
                                  "random", "recency"])  # fmt: skip
@pytest.mark.parametrize("budget", [24, 0.25])
def test_memory_is_what_the_footprint_says_however_uneven_the_heads(name, budget):
    states = states_of(2, 3, 150, torch.bfloat16)
    pruning = Pruning(policy(name), 32, budget, share="layer")
    layer, shape = read(pruning, states), LayerShape(2, 3, 3, 8, torch.bfloat16)
    assert layer.bytes() == held(shape, pruning, 150).total
    assert layer.peak_bytes == peak(shape, pruning, 150).total
    tokens, late = pruning.tokens(128) or 0, 150 - 128
    for heads in layer.kept():
        assert sum(heads) == 3 * (tokens + late)
        assert min(heads) >= math.ceil(tokens / 4) + late
    uneven = any(len(set(heads)) > 1 for heads in layer.kept())
    # Their scores are the same in every head.
    assert uneven == (name not in ("tova", "recency"))


@pytest.mark.parametrize("name", ["namm", "h2o", "snapkv"])
def test_sequences_share_nothing_and_calls_change_nothing(name):
    states = states_of(2, 3, 150)
    pruning = Pruning(policy(name), 32, 24, share="layer", keep_recent=4, sinks=2)
    both = [tokens.tolist() for tokens in read(pruning, states).positions()]
    alone = [
        tokens.tolist()
        for sequence in range(2)
        for tokens in read(pruning, states[sequence : sequence + 1], [70, 1, 79]).positions()
    ]
    assert both == alone
    for tokens in both:
        assert {0, 1, *range(146, 150)} <= set(tokens)


def test_recent_tokens_that_a_rule_scores_infinite_leave_room_for_its_best():
    kept = read(Pruning(policy("h2o"), 32, 16, share="layer"), states_of(1, 3, 160)).positions()
    recent = [sum(token >= 160 - 8 for token in tokens.tolist()) for tokens in kept]
    assert recent == [8, 8, 8]
    assert sum(map(len, kept)) == 3 * 16
    few = Pruning(get_policy("snapkv", observe=16), 32, 8, share="layer")
    # A window that is larger than the budget: each head has its newest.
    assert [tokens.tolist() for tokens in read(few, states_of(1, 3, 64)).positions()] == [
        list(range(56, 64))
    ] * 3


def test_a_threshold_of_the_settings_replaces_that_of_the_policy():
    states = states_of(1, 2, 64)
    own, same = (
        read(Pruning(policy("namm"), 16, threshold=threshold), states).positions()
        for threshold in (None, 0.0)
    )
    assert all(map(torch.equal, own, same))
    lowered = read(Pruning(policy("tova"), 16, threshold=0.01), states).kept()
    raised = read(Pruning(policy("tova"), 16, threshold=0.02), states).kept()
    assert 1 <= raised[0][0] < lowered[0][0] < 64


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("h2o", {"share": "heads"}, "unknown share 'heads'; use head, layer, model"),
        ("h2o", {"share_floor": 1.5}, r"share_floor is 1\.5; use a part of the even share"),
        ("h2o", {"share_floor": float("nan")}, "share_floor is nan; use a part"),
        ("namm", {"share": "layer", "budget": None}, "share layer is of a budget, and there is"),
        ("namm", {"share": "model"}, "share model goes by one threshold, and budget 24 was given"),
        ("namm", {"threshold": 0.5}, r"threshold 0\.5 and budget 24 say both what leaves; give"),
        ("tova", {"threshold": float("inf"), "budget": None}, "threshold inf is no score"),
        ("tova", {"share": "model", "budget": None}, "tova has no threshold of its own; give it"),
        ("h2o_age", {"threshold": 0.1, "budget": None}, "policy h2o_age are of one budget or mom"),
        ("criticalkv", {"threshold": 0.1, "budget": None}, "policy criticalkv are of one budget"),
        ("recency", {"threshold": 9, "budget": None}, "policy recency are of one budget or mom"),
        ("full", {"threshold": 0.1, "budget": None}, "policy full keeps everything; leave the thr"),
        ("full", {"share": "layer", "budget": None}, "share layer is of a budget, and there is"),
    ],
)
def test_what_does_not_fit_is_one_sentence(name, wrong, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        Pruning(policy(name), 32, **{"budget": 24, **wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted({*POLICIES.built_in} - {"full", "namm"}))
def test_every_rule_follows_a_threshold_or_says_that_none_fits(name):
    if not get_policy(name).takes_threshold:
        with pytest.raises(UserError, match="no threshold fits them"):
            Pruning(get_policy(name), 16, threshold=0.5)
        return
    layer = read(Pruning(get_policy(name), 16, threshold=0.5), states_of(2, 3, 150))
    for tokens in layer.positions():
        assert 149 in tokens
        if hasattr(get_policy(name), "sinks"):
            assert {0, 1, 2, 3} <= {*tokens.tolist()}

"""Rules hold as much as a NAMM: its bytes, its tokens on average, or its tokens at most."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.cache.equal import AMOUNTS, at_equal_bytes, at_equal_tokens, foreseen
from transfer.cache.footprint import LayerShape, peak
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.options import ContenderOptions
from transfer.evaluation.runner import evaluate
from transfer.namm.network import NAMM, NAMMConfig
from transfer.policies import get_policy

SHAPE = LayerShape(batch=1, heads=4, kv_heads=2, dim=16, dtype=torch.float32)
TOKENS = 512
NAMM_POLICY = get_policy("namm", namm=NAMM(NAMMConfig()))


def matched(rule, budget, update_interval=32, own_interval=None):
    like = Pruning(NAMM_POLICY, update_interval, budget)
    pruning = Pruning(get_policy(rule), own_interval or update_interval, budget)
    return at_equal_bytes(pruning, like, SHAPE, TOKENS), like


def weight(pruning):
    return peak(SHAPE, pruning, TOKENS).total


@pytest.mark.parametrize("rule", ["h2o", "fastgen", "tova", "snapkv", "recency", "random"])
def test_one_token_more_would_weigh_more_than_the_namm(rule):
    found, namm = matched(rule, 24)
    assert found.budget > 24
    assert weight(found) <= weight(namm) < weight(replace(found, budget=found.budget + 1))


def test_a_share_is_matched_by_a_share():
    found, namm = matched("h2o", 0.25)
    assert 0.25 < found.budget < 0.5
    assert weight(found) <= weight(namm) < weight(replace(found, budget=found.budget + 0.02))


def test_a_rule_keeps_its_own_interval():
    found, namm = matched("h2o", 24, own_interval=16)
    assert found.update_interval == 16
    assert weight(found) <= weight(namm) < weight(replace(found, budget=found.budget + 1))


def test_who_weighs_more_than_the_namm_has_its_budget():
    found, namm = matched("h2o", 24, own_interval=256)
    assert found.budget == 24 and weight(found) > weight(namm)


def test_what_is_measured_is_equal_too():
    contenders = ContenderOptions(
        policy=("namm", "h2o", "recency"), budget=(24,), equal_bytes=True, update_interval=32
    )
    settings = LanguageEval(model="llama-recall", documents=2, contenders=contenders)
    found = {entry["policy"]: entry for entry in evaluate(settings).summary}
    for rule in ("h2o", "recency"):
        ratio = found[rule]["peak_bytes"] / found["namm"]["peak_bytes"]
        assert 0.97 < ratio <= 1.0
        assert found[rule]["kept_tokens"] > found["namm"]["kept_tokens"]


def test_a_namm_that_keeps_more_than_there_is_has_its_budget_matched():
    like = Pruning(NAMM_POLICY, 32, 600)
    found = at_equal_bytes(Pruning(get_policy("h2o"), 32, 600), like, SHAPE, 512)
    assert found.budget == 600


def test_bytes_may_be_equal_under_another_kind_of_budget():
    like = Pruning(NAMM_POLICY, 32, 0.25)
    found = at_equal_bytes(Pruning(get_policy("h2o"), 32, 10_000), like, SHAPE, TOKENS)
    assert isinstance(found.budget, int)
    assert weight(found) <= weight(like) < weight(replace(found, budget=found.budget + 1))


BUDGETS = st.one_of(st.integers(1, 300), st.floats(0.02, 1.0))


@settings(max_examples=15)
@given(budget=BUDGETS, interval=st.sampled_from([7, 32, 64]), tokens=st.integers(1, 300))
def test_what_a_budget_holds_is_foreseen(budget, interval, tokens):
    pruning = Pruning(get_policy("recency", sinks=0), interval, budget)
    layer, keys = PrunedLayer(pruning, 0), torch.randn(1, 2, tokens, 4)
    layer.update(keys, keys)
    layer.attend(keys, keys, keys, None, 0.5)
    for amount, of in AMOUNTS.items():
        assert foreseen(pruning, amount, [tokens]) == pytest.approx(of(layer.held()[0]))


@settings(max_examples=15)
@given(
    budget=st.one_of(st.integers(8, 200), st.floats(0.1, 0.9)),
    kind=st.sampled_from([1.0, 10_000]),
    amount=st.sampled_from(["held", "peak"]),
    tokens=st.lists(st.integers(200, 700), min_size=1, max_size=3),
)
def test_kinds_of_budgets_hold_the_same_within_a_token(budget, kind, amount, tokens):
    like = Pruning(NAMM_POLICY, 32, budget)
    found = at_equal_tokens(Pruning(get_policy("h2o"), 32, kind), like, amount, tokens)
    assert found.is_share == isinstance(kind, float)
    both = [foreseen(pruning, amount, tokens) for pruning in (found, like)]
    assert abs(both[0] - both[1]) <= 1
    if found.is_share == like.is_share:
        assert found.budget == budget


def test_a_rule_that_is_pruned_more_often_is_given_more():
    like = Pruning(NAMM_POLICY, 64, 64)
    rule = Pruning(get_policy("h2o"), 16, 10_000)
    found = at_equal_tokens(rule, like, "held", [1000])
    assert found.budget > 64
    held = foreseen(found, "held", [1000])
    assert held == pytest.approx(foreseen(like, "held", [1000]), abs=0.5)


@settings(max_examples=8)
@given(budget=st.floats(0.1, 0.9), interval=st.sampled_from([16, 64]), tokens=st.integers(90, 130))
def test_of_budgets_that_hold_the_same_it_is_the_nearest_to_the_nominal_one(
    budget, interval, tokens
):
    like = Pruning(NAMM_POLICY, 32, budget)
    found = at_equal_tokens(Pruning(get_policy("h2o"), interval, 1.0), like, "held", [tokens])

    def off(budget):
        held = foreseen(replace(found, budget=budget), "held", [tokens])
        return abs(held - foreseen(like, "held", [tokens]))

    # (Budgets are tried in steps of a ten-thousandth.)
    ways = [part * (budget - found.budget) for part in (0.01, 0.1, 0.5, 0.9)]
    between = [found.budget + way for way in ways if abs(way) > 0.0001]
    assert all(off(other) > off(found.budget) for other in between)


def test_what_is_measured_decides_where_there_is_no_budget():
    like = Pruning(NAMM_POLICY, 32)
    found = at_equal_tokens(Pruning(get_policy("h2o"), 32, 10_000), like, "held", [256], 44.5)
    # 32 tokens after every update: 16.5 on average before the first, 48.5 between the others.
    assert found.budget == 32

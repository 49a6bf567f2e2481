"""Rules get the tokens that fit into a NAMM's bytes: no more, and not one token less."""

from dataclasses import replace

import pytest
import torch

from transfer.cache.equal import at_equal_bytes
from transfer.cache.footprint import LayerShape, peak
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

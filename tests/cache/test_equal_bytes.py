"""Rules get the tokens that fit into a NAMM's bytes: no more, and not one token less."""

from dataclasses import replace

import pytest
import torch

from transfer.cache.footprint import LayerShape, peak
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.evaluation.equal_bytes import EqualBytes
from transfer.evaluation.language import LanguageEval, evaluate_language
from transfer.namm.network import NAMM, NAMMConfig
from transfer.policies import get_policy

SHAPE = LayerShape(batch=1, heads=4, kv_heads=2, dim=16, dtype=torch.float32)
EQUAL = EqualBytes(SHAPE, tokens=512)
NAMM_POLICY = get_policy("namm", namm=NAMM(NAMMConfig()))


def matched(rule, budget, update_interval=32):
    settings = Pruning(NAMM_POLICY, update_interval, budget)
    return EQUAL.pruning(get_policy(rule), settings, [NAMM_POLICY]), settings


def weight(pruning):
    return peak(SHAPE, pruning, EQUAL.tokens).total


@pytest.mark.parametrize("rule", ["h2o", "fastgen", "tova", "snapkv", "recency", "random"])
def test_one_token_more_would_weigh_more_than_the_namm(rule):
    found, namm = matched(rule, 24)
    assert found.budget > 24
    assert weight(found) <= weight(namm) < weight(replace(found, budget=found.budget + 1))


def test_a_share_is_matched_by_a_share():
    found, namm = matched("h2o", 0.25)
    assert 0.25 < found.budget < 0.5
    assert weight(found) <= weight(namm) < weight(replace(found, budget=found.budget + 0.02))


def test_a_second_namm_keeps_the_budget_and_full_keeps_everything():
    settings = Pruning(NAMM_POLICY, 32, 24)
    other = get_policy("namm", namm=NAMM(NAMMConfig(scorer="mlp")))
    assert EQUAL.pruning(other, settings, [NAMM_POLICY, other]).budget == 24


def test_without_a_namm_there_is_nothing_to_equal():
    with pytest.raises(UserError, match="add it to --policy"):
        evaluate_language(
            LanguageEval(model="llama-recall", policy=("h2o",), equal_bytes=True, documents=1)
        )


def test_without_a_budget_there_is_nothing_to_equal():
    settings = LanguageEval(
        model="llama-recall",
        policy=("namm", "fastgen"),
        budget=(None,),
        equal_bytes=True,
        documents=1,
    )
    with pytest.raises(UserError, match="give --budget a number"):
        evaluate_language(settings)


def test_what_is_measured_is_equal_too():
    settings = LanguageEval(
        model="llama-recall", policy=("namm", "h2o", "recency"), equal_bytes=True, documents=2
    )
    found = {entry["policy"]: entry for entry in evaluate_language(settings).summary}
    for rule in ("h2o", "recency"):
        ratio = found[rule]["peak_bytes"] / found["namm"]["peak_bytes"]
        assert 0.97 < ratio <= 1.0
        assert found[rule]["kept_tokens"] > found["namm"]["kept_tokens"]

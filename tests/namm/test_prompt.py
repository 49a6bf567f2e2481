"""Scores of a whole prompt are those of a cache that prunes first at its end."""

import pytest
import torch

from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.namm.config import NAMMConfig
from transfer.namm.network import NAMM
from transfer.namm.prompt import prompt_scores
from transfer.policies import get_policy

SCALE = 0.4


def states(tokens, batch=2, heads=4, kv_heads=2):
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(batch, heads, tokens, 8, generator=generator) * 2
    key, value = torch.randn(2, batch, kv_heads, tokens, 8, generator=generator)
    return query, key, value


def reading(features):
    config = NAMMConfig(features=features, hidden=4)
    return NAMM(config, torch.randn(1, config.size) * 0.3)


@pytest.mark.parametrize("tokens", [96, 100, 530, 7])
@pytest.mark.parametrize(
    "name", ["recall", "universal", "log+slow+norms+relative_slow", "rates+ages", "log+unlike"]
)
def test_what_stays_is_what_a_cache_keeps(name, tokens):
    namm = reading(name) if "+" in name else NAMM.from_pretrained(name)
    query, key, value = states(tokens)
    scores = prompt_scores(namm, query, key, value, SCALE)
    # With as many before them, an update comes at the end.
    first = -tokens % 16
    policy, kept = get_policy("namm", namm=namm), max(tokens // 4, 2)
    layer = PrunedLayer(Pruning(policy, first + tokens, kept), 0)
    layer.first = first
    layer.attend(query, key, value, None, SCALE)
    scores[..., -1] = torch.inf
    best = scores.topk(kept).indices.sort().values
    assert best.flatten(0, 1).tolist() == [row.tolist() for row in layer.positions()]


def test_all_scores_are_those_of_the_policy():
    namm, (query, key, value) = NAMM.from_pretrained("recall"), states(112)
    told = []

    class Listening(type(get_policy("namm", namm=namm))):
        def score(self, window, state):
            found, state = super().score(window, state)
            told.append(found)
            return found, state

    PrunedLayer(Pruning(Listening(namm), 112, 20), 0).attend(query, key, value, None, SCALE)
    scores = prompt_scores(namm, query, key, value, SCALE)
    torch.testing.assert_close(scores, told[0], rtol=1e-4, atol=1e-5)


def test_half_precision_is_scored_in_single():
    namm, (query, key, value) = NAMM.from_pretrained("recall"), states(64)
    half = (part.bfloat16() for part in (query, key, value))
    whole = (part.bfloat16().float() for part in (query, key, value))
    scores = prompt_scores(namm, *half, SCALE)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, prompt_scores(namm, *whole, SCALE))

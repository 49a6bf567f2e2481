"""Our scores beside those of kvpress on the same tensors, see `record_kvpress.py`.

At the first update of a sequence the definitions are the same, but for what each test names.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from transfer.cache import layer as module
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Depth, Pruning
from transfer.policies import get_policy

THEIRS = load_file(Path(__file__).parent / "fixtures" / "kvpress.safetensors")
TOKENS, SINKS, WINDOW, LAG, KEPT = 48, 4, 8, 8, 20


@pytest.fixture
def ours(monkeypatch):
    """Scores of a policy `[1, kv_heads, tokens]` at the update after all tokens."""

    def score(name, **settings):
        found = []

        def watched(policy, window, state):
            scores, state = policy.score(window, state)
            found.append(scores)
            return scores, state

        monkeypatch.setattr(module, "scored", watched)
        layer = PrunedLayer(Pruning(get_policy(name, **settings), TOKENS, KEPT), 0)
        layer.attend(THEIRS["query"], THEIRS["key"], THEIRS["value"], None, 0.5)
        return found[0]

    return score


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["keydiff", "l2_norm"])
def test_rules_of_keys_alone_score_the_same(name, ours):
    same(ours(name), THEIRS[name])


def test_expected_attention_is_theirs_where_queries_are_not_rotated(ours):
    # Theirs are the statistics of all queries but those of the sinks.
    found = ours("expected_attention", observe=TOKENS - SINKS, sinks=SINKS)
    same(found[..., SINKS:], THEIRS["expected_attention"][..., SINKS:])
    assert found[..., :SINKS].isposinf().all()


def test_lagkv_ranks_from_the_best_down_and_theirs_from_the_worst_up(ours):
    found, theirs = ours("lagkv", lag=LAG, sinks=SINKS), THEIRS["lagkv"]
    ranked = slice(SINKS, TOKENS - (TOKENS - SINKS) % LAG - LAG)
    same(found[..., ranked], theirs[..., ranked] + 1 / LAG)
    # What always stays: theirs in no order, ours the sinks first.
    assert (theirs[..., ranked.stop :] == 1).all()
    assert (found[..., ranked.stop :] == 2).all()
    assert found[..., :SINKS].isposinf().all()


def test_snapkv_sums_over_the_window_and_theirs_is_the_mean(ours):
    found = ours("snapkv", observe=WINDOW, kernel=5)
    before = slice(0, TOKENS - WINDOW)
    same(found[..., before] / WINDOW, THEIRS["snapkv"][..., before])
    assert found[..., before.stop :].isposinf().all()


def test_criticalkv_spends_the_first_stage_beside_the_window_and_theirs_on_it_too(ours):
    share = (KEPT // 2 - WINDOW) / (KEPT - WINDOW)
    found = ours("criticalkv", observe=WINDOW, kernel=5, first_stage=share)
    theirs = THEIRS["criticalkv"]
    before = torch.arange(TOKENS) < TOKENS - WINDOW
    first = theirs == torch.finfo(theirs.dtype).max
    assert int((first & before).sum()) == 2 * (KEPT // 2 - WINDOW)
    assert found[first | ~before.expand_as(first)].isposinf().all()
    same(found[~first & before], theirs[~first & before])


def test_h2o_age_without_its_recent_half_is_the_mean_attention(ours):
    recent = KEPT // 2
    found = ours("h2o_age")
    same(found[..., :-recent], THEIRS["h2o_age"][..., :-recent])


def test_tova_gives_all_heads_the_same_and_theirs_the_newest_token_more(ours):
    same(ours("tova")[..., :-1], THEIRS["tova"][..., :-1])


def test_pyramidkv_holds_the_window_beside_the_pyramid_and_theirs_within():
    policy, layers = get_policy("pyramidkv", observe=WINDOW, beta=4), len(THEIRS["pyramidkv"])
    pruning = Pruning(policy, TOKENS, 400 + WINDOW)
    own = [pruning.tokens(1000, Depth(place, layers)) for place in range(layers)]
    assert [tokens - WINDOW for tokens in own] == THEIRS["pyramidkv"].tolist()

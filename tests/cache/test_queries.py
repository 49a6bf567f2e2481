"""Queries are looked at a few dozen at a time: the sums over them are those over the window."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer import attach
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.cache.queries import STRIDE
from transfer.errors import UserError
from transfer.namm.features.spec import SPEC
from transfer.namm.spectrogram import HOP
from transfer.policies import get_policy

GAMMA = 0.99


class Whole(tiny.Uneven):
    """Looks at its window in one piece, at its end."""

    reads_attention = True
    state_size = 18
    multiple_of = HOP

    def looks_back(self, update_interval):
        return HOP + update_interval

    def score(self, window, state):
        features, sums = state[..., :17].clone(), state[..., 17:]
        features = SPEC.accumulate(window, features, GAMMA)
        sums = sums + window.column_sums()[..., None]
        return super().score(window, state)[0], torch.cat([features, sums], -1)


class Pieces(Whole):
    """The same, as the queries come."""

    def looks_back(self, update_interval):
        return HOP

    def accumulate(self, window, state):
        return Whole.score(self, window, state)[1]

    def score(self, window, state):
        return tiny.Uneven.score(self, window, state)[0], state


@settings(max_examples=25)
@given(
    update_interval=st.sampled_from([16, 64, 80, 192]),
    cuts=st.lists(st.integers(1, 150), min_size=1, max_size=9),
    groups=st.sampled_from([1, 2]),
    padding=st.sampled_from([0, 5, 100]),
    seed=st.integers(0, 100),
)
def test_in_pieces_as_in_one(update_interval, cuts, groups, padding, seed):
    torch.manual_seed(seed)
    tokens = sum(cuts)
    query = torch.randn(2, 2 * groups, tokens, 8, dtype=torch.float64)
    key = torch.randn(2, 2, tokens, 8, dtype=torch.float64)
    valid = torch.ones(2, tokens, dtype=torch.bool)
    valid[1, :padding] = False
    layers = [
        PrunedLayer(Pruning(policy, update_interval, trace=True), 0)
        for policy in (Whole(), Pieces())
    ]
    for layer, pieces in zip(layers, ([tokens], cuts)):
        parts = (x.split(pieces, 2) for x in (query, key, valid[:, None]))
        for q, k, v in zip(*parts):
            layer.update(k, k)
            layer.attend(q, k, k, None if v.all() else v[:, 0], 0.35)
    traces = [
        [
            [(at, [row.tolist() for row in kept]) for at, kept in updates]
            for updates in layer.kept_positions
        ]
        for layer in layers
    ]
    assert traces[0] == traces[1]
    whole = layers[0]
    # After the last update the one has observed more than the other.
    scored = [
        sum(p < tokens - tokens % update_interval for p in row.tolist())
        for row in whole.positions()
    ]
    for row, count in enumerate(scored):
        states = [
            layer.store.padded_state()[row, layer.store.longest - layer.store.lengths[row] :]
            for layer in layers
        ]
        if tokens % update_interval == 0:
            torch.testing.assert_close(states[0][:count], states[1][:count], rtol=1e-9, atol=1e-9)


class Silent(tiny.Uneven):
    """Looks at attention and does not say so."""

    def score(self, window, state):
        return window.column_sums(), state


def test_a_policy_that_looks_without_saying_so_is_told_what_to_say():
    model = tiny.llama(layers=1)
    with (
        torch.no_grad(),
        attach(model, Silent(), update_interval=8, budget=4) as memory,
        pytest.raises(UserError, match="say reads_attention = True in its class"),
    ):
        model(torch.randint(3, 97, (1, 16)), cache=memory.new_cache())


class Multiples(tiny.Uneven):
    """Sums attention, and notes how many queries it is shown at a time."""

    reads_attention = True
    state_size = 1

    def looks_back(self, update_interval):
        return 3

    def accumulate(self, window, state):
        SHOWN.append(window.queries)
        return window.fold(lambda block: block[:, 3:].sum(1)[..., None], state, carried=3)


SHOWN: list[int] = []


@pytest.mark.parametrize(
    ("multiple", "update_interval"), [(1, 7), (5, 100), (24, 96), (128, 256), (200, 200)]
)
def test_queries_come_in_the_policy_s_multiples(multiple, update_interval):
    policy = type("Its", (Multiples,), {"multiple_of": multiple})()
    tokens = 3 * update_interval
    key = torch.randn(1, 2, tokens, 8, dtype=torch.float64)
    query = torch.randn(1, 4, tokens, 8, dtype=torch.float64)
    kept, states = [], []
    for pieces in ([tokens], [1] * tokens, [15, 3, tokens - 18]):
        SHOWN.clear()
        layer = PrunedLayer(Pruning(policy, update_interval, 40), 0)
        for q, k in zip(query.split(pieces, 2), key.split(pieces, 2)):
            layer.update(k, k)
            layer.attend(q, k, k, None, 0.35)
        assert all(count % multiple == 0 for count in SHOWN)
        assert sum(SHOWN) == tokens
        kept.append([row.tolist() for row in layer.positions()])
        states.append(layer.store.padded_state())
    assert kept[0] == kept[1] == kept[2]
    torch.testing.assert_close(states[0], states[1])
    torch.testing.assert_close(states[0], states[2])


def test_an_interval_that_is_no_multiple_is_refused():
    policy = type("Its", (Multiples,), {"multiple_of": 24})()
    with pytest.raises(UserError, match=r"interval 64 does not fit .*positive multiple of 24"):
        Pruning(policy, 64)


@pytest.mark.parametrize(
    ("policy", "rows"),
    [("h2o", 0), ("snapkv", 16), ("tova", 1), ("fastgen", 0), ("expected_attention", 64)],
)
@pytest.mark.parametrize("update_interval", [32, 512])
def test_only_as_many_queries_are_held_as_the_policy_looks_back_at(policy, rows, update_interval):
    layer = PrunedLayer(Pruning(get_policy(policy), update_interval, 8), 0)
    key = torch.randn(1, 2, 600, 8)
    layer.update(key, key)
    layer.attend(torch.randn(1, 4, 600, 8), key, key, None, 0.35)
    assert layer.now.log.query.shape == (1, 4, rows + min(update_interval, STRIDE), 8)


def test_a_policy_cannot_ask_for_queries_that_are_gone():
    class Short(Whole):
        def looks_back(self, update_interval):
            return HOP

    layer = PrunedLayer(Pruning(Short(), 32), 0)
    key = torch.randn(1, 2, 40, 8)
    layer.update(key, key)
    with pytest.raises(UserError, match="32 queries were asked for, 16 are held"):
        layer.attend(key, key, key, None, 0.35)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_state_in_half_precision_where_the_policy_allows_it(dtype):
    found = {}
    for half in (False, True):
        policy = Pieces()
        policy.__class__ = type("Half", (Pieces,), {"half_state": half})
        torch.manual_seed(0)
        layer = PrunedLayer(Pruning(policy, 64), 0)
        key = torch.randn(1, 2, 320, 8).to(dtype)
        layer.update(key, key)
        layer.attend(torch.randn(1, 4, 320, 8).to(dtype), key, key, None, 0.35)
        found[half] = layer.store.state
    assert (found[False].dtype, found[True].dtype) == (torch.float32, torch.float16)
    torch.testing.assert_close(found[True].float(), found[False], rtol=4e-3, atol=1e-5)

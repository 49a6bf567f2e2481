"""What a token was worth, against costs with and without it."""

import pytest
import torch
from memory_records import saved

from transfer.cache.policy import Pruning
from transfer.namm.config import NAMMConfig
from transfer.namm.network import NAMM
from transfer.policies.namm import NAMMPolicy
from transfer.replay import worth as room
from transfer.replay.cost import replayed
from transfer.replay.recording import within
from transfer.replay.worth import worth

TOKENS, INTERVAL = 64, 16


def namm():
    config = NAMMConfig(features="log", hidden=3)
    generator = torch.Generator().manual_seed(2)
    return NAMM(config, torch.randn(1, config.size, generator=generator))


@pytest.fixture(params=[None, 30])
def record(tmp_path, request):
    return saved(tmp_path / "some.safetensors", rows=2, tokens=TOKENS, window=request.param)


def costs(states, held, window):
    """Of each query, with the tokens that it attends to; [rows, queries] and [queries]."""
    key, value = (x.repeat_interleave(2, 1) for x in (states.key, states.value))
    scores = (states.query @ key.mT * states.scale).double()
    seen = within(window or TOKENS, TOKENS)
    value = value.double()
    whole = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value
    held = held.repeat_interleave(2, 1)
    change = scores.masked_fill(~held, -torch.inf).softmax(-1) @ value - whole
    loss = (change * states.gradient).sum((1, 3)).square()
    return loss, change.square().sum((1, 3)) / whole.square().sum()


@pytest.mark.parametrize("share", ["head", "layer"])
def test_it_is_the_difference_of_the_costs_with_and_without_it(record, share):
    pruning = Pruning(NAMMPolicy(namm()), INTERVAL, 12, share=share)
    states = record.layer(0, [0, 1])
    found = worth(states, 0, record.about, pruning)
    left = torch.full((2, 2, TOKENS), TOKENS + 1)
    for number, update in enumerate(found.updates):
        seen = (number + 1) * INTERVAL
        # All tokens that still lived are scored, the newest last.
        for row in range(4):
            living = (left.flatten(0, 1)[row, :seen] > seen - INTERVAL).nonzero()[:, 0]
            kept = update.kept[row][update.valid[row]]
            left.flatten(0, 1)[row, living[~kept]] = seen
    queries = torch.arange(TOKENS)
    held = (queries[:, None] < left[:, :, None]) & (queries[:, None] >= queries)
    checked = 0
    for number, update in enumerate(found.updates):
        seen = (number + 1) * INTERVAL
        later = queries >= seen
        for sequence, head in ((0, 0), (1, 1)):
            row = sequence * 2 + head
            living = (left[sequence, head, :seen] > seen - INTERVAL).nonzero()[:, 0]
            valid = update.valid[row]
            for token, of_loss, of_outputs in list(
                zip(living, update.loss[row][valid], update.outputs[row][valid])
            )[::5]:
                wth, out = held.clone(), held.clone()
                wth[sequence, head, later, token] = True
                out[sequence, head, later, token] = False
                differences = [
                    (b - a)[sequence].sum().item()
                    for a, b in zip(
                        costs(states, wth, record.about.window),
                        costs(states, out, record.about.window),
                    )
                ]
                assert of_loss.item() == pytest.approx(differences[0], rel=2e-3, abs=1e-3)
                assert of_outputs.item() == pytest.approx(differences[1], rel=2e-3, abs=1e-6)
                checked += 1
    assert checked > 20


def test_the_costs_beside_it_are_those_of_the_replay(record):
    pruning = Pruning(NAMMPolicy(namm()), INTERVAL, 12)
    found = worth(record.layer(1, [0, 1]), 1, record.about, pruning)
    expected = replayed(record, [1], [0, 1], pruning)
    assert found.loss == pytest.approx(expected.loss[0], rel=1e-3)
    assert found.kept == pytest.approx(expected.kept[0])
    assert found.outputs == pytest.approx(expected.outputs[0], rel=1e-3)


def test_of_a_long_record_some_queries_are_looked_at(record, monkeypatch):
    pruning = Pruning(NAMMPolicy(namm()), INTERVAL, 12)
    states = record.layer(0, [0, 1])
    every = worth(states, 0, record.about, pruning)
    monkeypatch.setattr(room, "_MOST", states.query[:, :, 0, 0].numel() * TOKENS**2 // 3)
    third = worth(states, 0, record.about, pruning)
    # The same tokens stay; an update after the last query that is looked at says nothing.
    assert third.kept == every.kept
    assert 0 < len(third.updates) <= len(every.updates)
    assert third.outputs == pytest.approx(every.outputs, rel=0.3)
    first, second = every.updates[0], third.updates[0]
    pairs = torch.stack([first.outputs[first.valid], second.outputs[second.valid]])
    assert pairs.corrcoef()[0, 1] > 0.5


def test_where_nothing_leaves_nothing_is_worth_anything(record):
    pruning = Pruning(NAMMPolicy(namm()), 128, 12)
    found = worth(record.layer(0, [0]), 0, record.about, pruning)
    assert found.updates == []
    assert found.kept == 1

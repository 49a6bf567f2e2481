"""Policies of other people: what they may return, raise and say of themselves."""

import sys

import pytest
import tiny
import torch

from transfer import Pruning, attach
from transfer.errors import UserError
from transfer.policies import get_policy


class Mine(tiny.Uneven):
    name = "mine"

    def score(self, window, state):
        return window.positions, state


def leave(*args, **kwargs):
    raise SystemExit(0)


def fail(*args, **kwargs):
    raise ValueError("not\nmine")


def forward(policy, **settings):
    model, ids = tiny.llama(layers=2), torch.randint(3, 97, (1, 40))
    with attach(model, policy, update_interval=16, **settings) as memory, torch.no_grad():
        model(ids, cache=memory.new_cache())
        return memory.kept(0)


def test_whole_numbers_are_scores():
    kept = forward(Mine(), budget=5)
    assert [head.tolist() for head in kept[0]] == [list(range(27, 40))] * 2


@pytest.mark.parametrize(
    ("score", "sentence"),
    [
        (lambda w, s: (w.positions.double() * torch.nan, s), "mine scores a token NaN"),
        (
            lambda w, s: (w.positions[:, :1], s),
            r"\[1, 1, 16\]; return \[1, 2, 16\]",
        ),
        (lambda w, s: (w.positions[..., :1], s), r"scores of shape \[1, 2, 1\]"),
        (lambda w, s: (w.positions, s[..., :1, :]), "mine returns state of shape"),
        (lambda w, s: (w.positions + 1j, s), "return real numbers"),
        (lambda w, s: (w.positions.tolist(), s), r"returns scores \[\[\[0"),
        (lambda w, s: (w.positions, None), "returns state None"),
        (lambda w, s: w.positions, "no pair of scores and state"),
        (fail, r"mine cannot score \(ValueError: not mine\)"),
        (leave, r"mine cannot score \(SystemExit: 0\)"),
    ],
)
def test_what_is_no_score_is_a_sentence(score, sentence, monkeypatch):
    monkeypatch.setattr(Mine, "score", lambda self, window, state: score(window, state))
    with pytest.raises(UserError, match=sentence):
        forward(Mine(), budget=5)


def test_what_is_no_state_is_a_sentence(monkeypatch):
    monkeypatch.setattr(Mine, "state_size", 2)
    monkeypatch.setattr(Mine, "reads_attention", True)
    monkeypatch.setattr(Mine, "accumulate", lambda self, window, state: state[..., :1])
    with pytest.raises(UserError, match="mine returns state of shape"):
        forward(Mine(), budget=5)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("state_size", -1, "state_size of policy mine is -1"),
        ("state_size", 1.5, "use a whole number from 0 on"),
        ("multiple_of", 0, "use a whole number from 1 on"),
        ("multiple_of", "x", "multiple_of of policy mine is 'x'"),
        ("evicts", "no", "use True or False"),
        ("threshold", float("nan"), "use a number or None"),
        ("threshold", "x", "use a number or None"),
        ("name", "", "has no name"),
        ("looks_back", lambda self, interval: 3.5, "looks back 3.5"),
        ("looks_back", lambda self, interval: -5, "looks back -5"),
        ("looks_back", fail, "cannot say how far it looks back"),
    ],
)
def test_what_a_policy_says_of_itself_is_checked_at_the_call(name, value, sentence, monkeypatch):
    monkeypatch.setattr(Mine, name, value)
    with pytest.raises(UserError, match=sentence):
        Pruning(Mine(), None, 5)


def test_a_constructor_that_leaves_is_a_sentence(monkeypatch):
    monkeypatch.setattr(Mine, "__init__", leave)
    monkeypatch.setitem(sys.modules, "mine_outside", sys.modules[__name__])
    with pytest.raises(UserError, match=r"cannot be made \(SystemExit: 0\)"):
        get_policy("mine_outside:Mine")

"""Costs against the formula on dense masks, and what a population shares."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory_records import saved

from transfer.cache.policy import Pruning
from transfer.namm.config import NAMMConfig
from transfer.namm.network import NAMM
from transfer.policies import get_policy
from transfer.policies.namm import NAMMPolicy
from transfer.replay.cost import Costs, improvement, replayed

TOKENS, INTERVAL, BUDGET = 48, 16, 8


@pytest.fixture
def record(tmp_path):
    return saved(tmp_path / "some.safetensors", rows=3, tokens=TOKENS)


def test_keeping_everything_costs_nothing(record):
    found = replayed(record, record.layers, [0, 1, 2], Pruning(get_policy("full"), INTERVAL))
    large = replayed(record, record.layers, [0, 1, 2], Pruning(get_policy("recency"), 16, TOKENS))
    assert found.loss[0] == found.outputs[0] == large.loss[0] == large.outputs[0] == 0
    assert found.kept[0] == 1


def test_costs_are_those_of_the_formula(record):
    """FIFO's mask is known beforehand: at each update all but the newest tokens leave."""
    pruning = Pruning(get_policy("recency", sinks=0), INTERVAL, BUDGET)
    found = replayed(record, [0, 1], [0, 2], pruning)
    query, past = torch.arange(TOKENS)[:, None], torch.arange(TOKENS)
    visible = (past <= query) & (past >= query // INTERVAL * INTERVAL - BUDGET)
    loss, outputs = 0.0, 0.0
    for index in (0, 1):
        states = record.layer(index, [0, 2])
        key, value = (x.repeat_interleave(2, 1) for x in (states.key, states.value))
        weights = states.query @ key.mT * states.scale
        causal = weights.masked_fill(past > query, -torch.inf).softmax(-1) @ value
        change = weights.masked_fill(~visible, -torch.inf).softmax(-1) @ value - causal
        loss += (change * states.gradient).sum((1, 3)).square().sum().item()
        outputs += (change.square().sum() / causal.square().sum()).item()
    assert found.loss[0] == pytest.approx(loss, rel=1e-4)
    assert found.outputs[0] == pytest.approx(outputs, rel=1e-4)
    assert found.kept[0] == pytest.approx(BUDGET / TOKENS)


def test_what_attended_to_a_window_costs_nothing_within_it(tmp_path):
    record = saved(tmp_path / "window.safetensors", tokens=TOKENS, window=7)
    newest = get_policy("recency", sinks=0)
    same, less, more = (
        replayed(record, [0, 1], [0], Pruning(newest, 1, budget)).outputs[0] for budget in (6, 4, 9)
    )
    assert same < 1e-10
    assert min(less, more) > 1e-3


def test_a_population_costs_what_its_members_cost_alone(record):
    config = NAMMConfig(features="log", hidden=3)
    vectors = torch.randn(3, config.size, generator=torch.Generator().manual_seed(1))
    together = replayed(
        record, [1], [0, 1], Pruning(NAMMPolicy(NAMM(config, vectors)), INTERVAL, BUDGET), 3
    )
    for member in range(3):
        policy = NAMMPolicy(NAMM(config, vectors[member]))
        alone = replayed(record, [1], [0, 1], Pruning(policy, INTERVAL, BUDGET))
        assert together.loss[member] == pytest.approx(alone.loss[0], rel=1e-5)
        assert together.outputs[member] == pytest.approx(alone.outputs[0], rel=1e-5)


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6), st.floats(1e-6, 1e6))
def test_an_improvement_has_no_units_and_its_reference_none(values, unit):
    cost = np.array(values)
    costs = [Costs(cost * u, cost[::-1].copy() * u, 0 * cost, 0.0) for u in (1.0, unit)]
    found = improvement(costs[0])
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert found == pytest.approx(improvement(costs[1]), abs=1e-9)


def test_lower_costs_are_better_and_bounded():
    costs = Costs(np.array([1.0, 0.5, 0.0, 2.0]), np.array([1.0, 0.5, 0.0, 2.0]), np.zeros(4), 0.0)
    found = improvement(costs)
    assert found[2] == pytest.approx(np.log(1.05 / 0.05))
    assert found[2] > found[1] > 0 > found[3]


def test_where_nothing_had_to_leave_nobody_is_better():
    costs = Costs(np.zeros(3), np.array([0.0, 1.0, 2.0]), np.zeros(3), 0.0)
    assert improvement(costs).tolist() == [0, 0, 0]

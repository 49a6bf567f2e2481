"""Candidates that act together act as they would alone, also when episodes end early."""

from functools import partial

import numpy as np
import pytest
import torch

import transfer.evolution.control as module
from transfer.adapters.control_names import control_model
from transfer.checkpoints import shipped
from transfer.errors import UserError
from transfer.evolution.cases import Case, fitness_cases, validation_cases
from transfer.evolution.config import EvolveConfig
from transfer.evolution.control import ControlTasks, score_unevenly
from transfer.evolution.evaluator import Evaluator, StatisticsJob
from transfer.evolution.evolve import evolve
from transfer.evolution.fitness import Weights, evaluate
from transfer.evolution.genome import Genome
from transfer.evolution.ledger import read_ledger
from transfer.namm.network import NAMM, NAMMConfig
from transfer.workers.engines import make_engine

HOPPER = "decision-transformer-hopper-medium"
CONFIG = NAMMConfig(features="log", hidden=3)


def population_of(vectors):
    return NAMM(CONFIG, torch.from_numpy(vectors).float())


def vectors(count=3):
    return np.random.default_rng(1).standard_normal((count, CONFIG.size))


def case(**changes):
    settings = {"budget": 8, "update_interval": 16, "length": 60, "seeds": (3, 4, 5, 6)} | changes
    return Case(HOPPER, "hopper", eviction="exact", **settings)


@pytest.fixture(scope="module")
def tasks():
    return ControlTasks((HOPPER,))


@pytest.mark.parametrize(
    ("features", "scorer"), [("log", "bam"), ("log", "mlp"), ("universal_norms+unlike", "bam")]
)
def test_a_crowd_scores_its_sequences_as_its_members_do(features, scorer):
    config = NAMMConfig(features=features, hidden=3, scorer=scorer)
    numbers = np.random.default_rng(1).standard_normal((3, config.size))
    namm = NAMM(config, torch.from_numpy(numbers).float())
    members, heads = torch.tensor([0, 0, 0, 2, 2]), 2
    told = {
        "features": torch.rand(5 * heads, 7, namm.feature.state_size),
        "age": torch.arange(7).flip(0).expand(5 * heads, -1),
        "valid": torch.rand(5 * heads, 7).sort(1).values > 0.2,
        "norms": torch.rand(5 * heads, 7, 2),
        "unlike": torch.rand(5 * heads, 7),
    }
    scores = score_unevenly(namm, members, told)
    for row, member in enumerate(members.tolist()):
        own = slice(row * heads, row * heads + heads)
        mine = {name: tensor[own] for name, tensor in told.items()}
        alone = NAMM(config, namm.vector[member]).score(**mine)
        torch.testing.assert_close(scores[own], alone, rtol=1e-5, atol=1e-4)


def test_together_they_return_what_they_do_alone(tasks):
    """Candidates with different episode lengths: rows leave the batch at different steps."""
    numbers = vectors()
    long = case(length=400, seeds=(3, 4))
    together = tasks.measure(long, population_of(numbers))
    for number in range(3):
        alone = tasks.measure(long, population_of(numbers[number : number + 1]))
        # float32 sums in another order, amplified by the simulator
        np.testing.assert_allclose(alone.probability[0], together.probability[number], rtol=0.02)
        np.testing.assert_allclose(alone.kept[0], together.kept[number], atol=0.01)
    assert together.probability.shape == (3, 2)
    assert np.ptp(together.probability) > 0.01
    assert together.seconds.simulator > 0


def test_a_failed_episode_makes_its_candidates_fitness_no_number(tasks, monkeypatch):
    rollout = module.rollout

    def failing(*args, **more):
        episodes, clock = rollout(*args, **more)
        return [
            type(one)(**{**one.__dict__, "failure": "it broke"}) if number == 0 else one
            for number, one in enumerate(episodes)
        ], clock

    monkeypatch.setattr(module, "rollout", failing)
    found = tasks.measure(case(length=5, seeds=(1,)), population_of(vectors(2)))
    assert np.isnan(found.probability[0, 0]) and np.isfinite(found.probability[1, 0])


def test_fitness_mixes_language_and_control(llama_folder):
    language = Case(llama_folder, "recall", 96, (5, 6), 12, 16, "exact")
    make = partial(Evaluator, (llama_folder,), (HOPPER,))
    with make_engine("in-process", make, threads=1) as engine:
        for known in (language, case(length=30)):
            [found] = engine.map("statistics", [StatisticsJob((known,), CONFIG)])
            assert np.isfinite(found.mean).all() and min(found.std) > 0
        genome = Genome(CONFIG, found.mean, found.std)
        both = evaluate(engine, genome, vectors(), [language, case()], Weights(0.0, 0.5), rows=16)
        parts = [
            evaluate(engine, genome, vectors(), [one], Weights(0.0, 0.5), rows=16)
            for one in (language, case())
        ]
    np.testing.assert_allclose(both.fitness, (parts[0].fitness + parts[1].fitness) / 2, atol=1e-5)
    assert (parts[1].likelihood == 0).all() and (parts[1].probability > -1).all()


def test_tasks_are_split_at_commas_and_by_kind(tmp_path):
    config = EvolveConfig(tmp_path, tasks=("recall,hopper", HOPPER), episodes=3, max_steps=50)
    assert config.tasks == ("recall", "hopper", HOPPER)
    assert config.language_tasks == ("recall",)
    assert config.controls == {"hopper": "decision-transformer-hopper-mixed", HOPPER: HOPPER}
    cases = fitness_cases(config, seed=0, generation=4)
    assert [(one.model, one.length, len(one.seeds)) for one in cases] == [
        ("llama-recall", 256, 8), ("decision-transformer-hopper-mixed", 50, 3), (HOPPER, 50, 3),
    ]  # fmt: skip
    held_out = [
        seed for one in validation_cases(config) if one.task == HOPPER for seed in one.seeds
    ]
    assert sorted(held_out) == list(range(2**31, 2**31 + 20))
    assert not {*held_out} & {seed for one in cases for seed in one.seeds}


def test_control_leaves_the_draws_of_language_as_they_were(tmp_path):
    with_control = EvolveConfig(tmp_path, tasks=("recall", "passkey", "hopper"))
    without = EvolveConfig(tmp_path, tasks=("recall", "passkey"))
    assert fitness_cases(with_control, 1, 7)[:2] == fitness_cases(without, 1, 7)


def test_unknown_tasks_are_refused(tmp_path):
    with pytest.raises(UserError, match="unknown task 'hoper'"):
        EvolveConfig(tmp_path, tasks=("recall", "hoper"))
    assert control_model("recall") is None
    assert control_model("hopper") in shipped("control.json")


def test_a_run_on_control_resumes_to_the_same_bits(tmp_path):
    def config(name, **changes):
        settings = {"generations": 3, "validate_every": 2} | changes
        return EvolveConfig(
            tmp_path / name, tasks=(HOPPER,), population=4, episodes=1, max_steps=40, hidden=3,
            budget=(8,), update_interval=(16,), validation_episodes=2, **settings,
        )  # fmt: skip

    whole = evolve(config("whole"))
    evolve(config("cut", generations=2))
    resumed = evolve(config("cut", resume=True))
    assert torch.equal(whole.vector, resumed.vector)
    first, second = (
        read_ledger(tmp_path / name / "seed-0/ledger.jsonl") for name in ("whole", "cut")
    )
    assert [one["fitness"] for one in first] == [one["fitness"] for one in second]
    card = " ".join((tmp_path / "whole/namm/CARD.md").read_text().split())
    assert f"Evolved on control, {HOPPER} ({HOPPER}). No video took part" in card
    assert "it plays 1 fresh episodes of at most 40 steps" in card

"""A population in one forward pass is its candidates one by one; fitness is what it says."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from transfer.adapters.language_model import load_language_model
from transfer.adapters.scoring import score_batch
from transfer.attachment.memory import attach
from transfer.evolution.cases import Case, fitness_cases, validation_cases
from transfer.evolution.evaluator import Evaluator, FeatureCollector, MeasureJob, StatisticsJob
from transfer.evolution.fitness import Weights, evaluate
from transfer.evolution.genome import Genome
from transfer.namm.network import NAMM, NAMMConfig
from transfer.namm.statistics import FeatureStatistics
from transfer.tasks.base import FIRST_TRAINING_SEED
from transfer.tasks.recall import get_task, make_batch
from transfer.workers.engines import make_engine

POPULATION = 5


def make_case(model, **changes) -> Case:
    return replace(Case(model, "recall", 96, (5, 6, 7), 12, 16, "exact"), **changes)


@pytest.fixture
def engine(llama_folder, gpt2_folder):
    make = partial(Evaluator, (llama_folder, gpt2_folder), ())
    with make_engine("in-process", make, threads=1) as engine:
        yield engine


def genome_of(engine, model, **changes) -> Genome:
    config = NAMMConfig(features="log", hidden=3)
    [found] = engine.map("statistics", [StatisticsJob((make_case(model),), config)])
    return replace(Genome(config, found.mean, found.std), **changes)


def population(genome) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((POPULATION, genome.size))


@pytest.mark.parametrize("architecture", ["llama_folder", "gpt2_folder"])
@pytest.mark.parametrize(
    "budget, eviction", [(12, "exact"), (0.25, "exact"), (None, "exact"), (None, "reference")]
)
@pytest.mark.parametrize("scorer", ["bam", "mlp"])
def test_a_population_in_one_pass_is_its_candidates_one_by_one(
    engine, architecture, budget, eviction, scorer, request
):
    model = request.getfixturevalue(architecture)
    genome = genome_of(engine, model)
    genome = replace(genome, config=replace(genome.config, scorer=scorer))
    vectors, case = population(genome), make_case(model, budget=budget, eviction=eviction)
    together = evaluate(engine, genome, vectors, [case], Weights(0.0, 0.5), rows=1000)
    for number in range(POPULATION):
        alone = evaluate(
            engine, genome, vectors[number : number + 1], [case], Weights(0.0, 0.5), 1000
        )
        assert alone.kept[0] == pytest.approx(together.kept[number], abs=1e-12)
        assert alone.fitness[0] == pytest.approx(together.fitness[number], abs=2e-5)
    assert np.ptp(together.fitness) > 1e-3


@pytest.mark.parametrize("rows", [1, 2, 4, 7])
def test_the_size_of_a_pass_changes_no_fitness(engine, llama_folder, rows):
    genome = genome_of(engine, llama_folder)
    vectors, cases = (
        population(genome),
        [make_case(llama_folder), make_case(llama_folder, update_interval=32)],
    )
    whole = evaluate(engine, genome, vectors, cases, Weights(0.3, 2.0), rows=1000)
    cut = evaluate(engine, genome, vectors, cases, Weights(0.3, 2.0), rows)
    np.testing.assert_allclose(cut.fitness, whole.fitness, atol=2e-5)
    np.testing.assert_allclose(cut.kept, whole.kept, atol=1e-12)


def test_a_searched_decay_is_each_candidates_own(engine, llama_folder):
    genome = genome_of(engine, llama_folder, evolve_gamma=True)
    vectors = population(genome)
    vectors[1:, :-1] = vectors[0, :-1]
    case = make_case(llama_folder)
    found = evaluate(engine, genome, vectors, [case], Weights(0.0, 0.5), rows=1000)
    assert len(set(found.fitness)) == POPULATION
    fixed = Genome(genome.namm(vectors[3:4]).config, genome.mean, genome.std)
    alone = evaluate(engine, fixed, vectors[3:4, :-1], [case], Weights(0.0, 0.5), rows=1000)
    assert alone.fitness[0] == found.fitness[3]


def test_fitness_is_the_sum_of_its_parts_by_hand(engine, llama_folder):
    genome = genome_of(engine, llama_folder)
    vectors, case = population(genome)[:1], make_case(llama_folder, budget=None)
    found = evaluate(engine, genome, vectors, [case], Weights(0.3, 4.0), rows=8)
    model = load_language_model(llama_folder).model
    batch = make_batch(get_task("recall"), 96, case.seeds)
    full = score_batch(model, batch)
    with attach(model, genome.namm(vectors), update_interval=16) as memory:
        cache = memory.new_cache()
        pruned = score_batch(model, batch, cache)
    kept = np.mean(cache.kept()) / 96
    gain = (pruned.log_likelihood.mean() - full.log_likelihood.mean()).item()
    ratio = (pruned.answer_probability.mean() / full.answer_probability.mean()).item()
    assert 0.05 < kept < 0.95
    assert found.kept[0] == pytest.approx(kept)
    assert found.fitness[0] == pytest.approx(ratio + 4 * gain - 0.3 * kept, abs=1e-4)


def test_the_empty_vector_keeps_everything_and_scores_as_the_full_cache(engine, llama_folder):
    genome = genome_of(engine, llama_folder)
    case = make_case(llama_folder, budget=None)
    found = evaluate(engine, genome, np.zeros((1, genome.size)), [case], Weights(0.3, 4.0), 8)
    assert found.kept[0] == 1
    assert found.fitness[0] == pytest.approx(0.7, abs=1e-4)


def test_models_and_tasks_count_equally(engine, llama_folder, gpt2_folder):
    genome = genome_of(engine, llama_folder)
    cases = [
        make_case(llama_folder),
        make_case(gpt2_folder, task="passkey"),
        make_case(gpt2_folder, task="overwritten", seeds=(8,)),
    ]
    vectors = population(genome)
    whole = evaluate(engine, genome, vectors, cases, Weights(0.0, 0.5), rows=8)
    parts = [evaluate(engine, genome, vectors, [case], Weights(0.0, 0.5), rows=8) for case in cases]
    np.testing.assert_allclose(whole.fitness, np.mean([part.fitness for part in parts], 0))


def test_statistics_are_those_of_the_features_at_full_cache(engine, llama_folder):
    case = make_case(llama_folder)
    [found] = engine.map("statistics", [StatisticsJob((case,), NAMMConfig("log"))])
    namm = NAMM(NAMMConfig("log"))
    by_hand = FeatureStatistics(namm.feature)
    model = load_language_model(llama_folder).model
    with attach(model, FeatureCollector(namm, by_hand), case.update_interval) as memory:
        cache = memory.new_cache()
        score_batch(model, make_batch(get_task("recall"), 96, case.seeds), cache)
    assert found.mean == tuple(by_hand.mean.tolist())
    # 2 layers, 3 documents, 2 heads, and every token once at each update since it came
    assert by_hand.count == 2 * 3 * 2 * sum(range(16, 97, 16))
    assert cache.kept()[0][0] == [96, 96]


def test_seconds_are_split_and_add_up(engine, llama_folder):
    genome = genome_of(engine, llama_folder)
    job = MeasureJob(make_case(llama_folder), genome, population(genome).astype(np.float32))
    [found] = engine.map("measure", [job])
    assert min(found.seconds.model, found.seconds.features, found.seconds.scoring) > 0


def test_minibatches_are_fresh_shared_and_apart_from_validation(configured):
    config = configured(tasks=("recall", "decoys"), documents=8, validation_documents=9)
    once = fitness_cases(config, seed=1, generation=3)
    assert once == fitness_cases(config, seed=1, generation=3)
    assert [case.task for case in once] == ["recall", "decoys"]
    drawn = [
        seed
        for run in range(3)
        for generation in range(50)
        for case in fitness_cases(config, run, generation)
        for seed in case.seeds
    ]
    assert len(set(drawn)) == len(drawn) == 3 * 50 * 2 * 8
    held_out = [seed for case in validation_cases(config) for seed in case.seeds]
    assert len(held_out) == 2 * 9
    assert len(set(held_out)) == 9
    assert max(held_out) < min(drawn)
    assert max(drawn) < FIRST_TRAINING_SEED


def test_every_budget_and_interval_has_its_turn(configured):
    config = configured(budget=(12, 24, 48), update_interval=(16, 32), lengths=(96, 128))
    drawn = [fitness_cases(config, 0, generation)[0] for generation in range(60)]
    for name, wanted in (
        ("budget", {12, 24, 48}),
        ("update_interval", {16, 32}),
        ("length", {96, 128}),
    ):
        assert {getattr(case, name) for case in drawn} == wanted
        assert {getattr(case, name) for case in validation_cases(config)} == wanted


def test_sharing_is_drawn_has_its_turn_and_leaves_other_draws_as_they_were(configured):
    apart, both = configured(), configured(share=("head", "layer"), tasks=("recall", "decoys"))
    drawn = [fitness_cases(both, 0, generation)[0] for generation in range(30)]
    assert {case.share for case in drawn} == {"head", "layer"}
    assert {case.share for case in validation_cases(both)} == {"head", "layer"}
    first = [fitness_cases(apart, 0, generation)[0] for generation in range(30)]
    assert [replace(case, share="head") for case in drawn] == first


@pytest.mark.parametrize("budget", [12, 0.25])
def test_heads_that_share_score_otherwise_and_hold_as_much(engine, llama_folder, budget):
    genome = genome_of(engine, llama_folder)
    vectors = population(genome)
    apart, shared = (
        evaluate(engine, genome, vectors, [case], Weights(0.0, 0.5), rows=8)
        for case in (
            make_case(llama_folder, budget=budget, share=share) for share in ("head", "layer")
        )
    )
    assert np.allclose(apart.kept, shared.kept)
    assert not np.allclose(apart.fitness, shared.fitness)


def test_a_nan_of_the_model_is_a_nan_of_the_fitness(engine, llama_folder):
    genome = genome_of(engine, llama_folder)
    model = engine._worker._made._models[llama_folder]
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    found = evaluate(
        engine, genome, population(genome), [make_case(llama_folder)], Weights(0.0, 0.5), rows=8
    )
    assert np.isnan(found.fitness).all()

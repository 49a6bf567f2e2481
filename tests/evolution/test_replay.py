"""A search on records: which are drawn, that a cut changes nothing, and a whole small run."""

import json
from functools import partial
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from memory_records import saved

from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.evolution.evaluator import Evaluator
from transfer.evolution.evolve import evolve
from transfer.evolution.genome import Genome
from transfer.evolution.replay import (
    evaluate_replay,
    fitting_budgets,
    fitting_intervals,
    held_out_cases,
    replay_cases,
)
from transfer.evolution.slope import climbing
from transfer.files import write_sealed
from transfer.namm.config import NAMMConfig
from transfer.namm.scorers.base import split
from transfer.policies.namm import NAMMPolicy
from transfer.policies.recency import Recency
from transfer.replay.cost import replayed
from transfer.replay.records import FILE, Record
from transfer.workers.engines import make_engine


@pytest.fixture
def folders(tmp_path):
    made = tmp_path / "long", tmp_path / "short"
    for seed, (folder, tokens) in enumerate(zip(made, (96, 64))):
        folder.mkdir()
        for number in range(2):
            saved(folder / f"{number}.safetensors", 3, tokens, layers=8, seed=10 * seed + number)
        told = {"command": f"transfer record --out {folder.name}", "config": {"models": ["tiny"]}}
        write_sealed(folder / FILE, told)
    return made


@pytest.fixture
def replaying(configured, folders, tmp_path):
    held = copytree(folders[0], tmp_path / "held")
    return partial(configured, replay=folders, held_out=(held,), records=4)


def test_folders_take_turns_and_a_tenth_generation_reads_more(replaying, folders):
    config = replaying()
    cases = replay_cases(config, 0, 0)
    assert [case.record.rpartition("/")[0] for case in cases] == [*map(str, folders)] * 2
    assert cases == replay_cases(config, 0, 0)
    assert cases != replay_cases(config, 1, 0) != replay_cases(config, 0, 1)
    assert len(replay_cases(config, 0, 9)) == 16
    assert held_out_cases(config) == held_out_cases(replaying(records=4, seeds=(5,)))
    assert {case.record.rpartition("/")[0] for case in held_out_cases(config)} == {
        str(config.held_out[0])
    }


def test_layers_are_drawn_evenly(replaying):
    drawn = [case.layers for n in range(20) for case in replay_cases(replaying(), 0, n)]
    assert {len(layers) for layers in drawn} == {4}
    assert set(drawn) == {(0, 2, 4, 6), (1, 3, 5, 7)}


def test_budgets_and_intervals_suit_the_length_of_a_record(tmp_path):
    short = saved(tmp_path / "short.safetensors", tokens=96)
    long = saved(tmp_path / "long.safetensors", tokens=1024)
    assert fitting_budgets((8, 48, 512, 0.1), short) == [8, 48, 0.1]
    assert fitting_budgets((8, 48, 512, 0.1), long) == [48, 512, 0.1]
    assert fitting_intervals((16, 32, 256), short) == [16]
    assert fitting_intervals((16, 32, 256), long) == [16, 32, 256]
    with pytest.raises(
        UserError, match=r"no --budget suits .* 96 tokens that .* size from 3 to 48, or a fraction"
    ):
        fitting_budgets((64,), short)
    with pytest.raises(UserError, match=r"no --update-interval suits .* at most 24, or leave"):
        fitting_intervals((32,), short)
    window = saved(tmp_path / "window.safetensors", tokens=1024, window=60)
    assert fitting_budgets((8, 24, 48, 0.02, 0.1), window) == [8, 24, 0.02]
    assert fitting_intervals((16, 30, 32), window) == [16, 30]
    with pytest.raises(UserError, match=r"attend to 60 at most; add a size from 2 to 30$"):
        fitting_budgets((0.1, 64), window)


def test_a_record_that_no_budget_suits_is_refused_before_anything_runs(replaying):
    config = replaying(budget=(64,))
    with pytest.raises(UserError, match="no --budget suits"):
        evolve(config)
    assert not config.out.exists()


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_fitness_is_that_of_each_candidate_alone_however_it_is_cut(replaying, rows):
    config = replaying()
    genome = Genome(NAMMConfig(features="log", hidden=3), (0.0,) * 17, (1.0,) * 17)
    vectors = np.random.default_rng(0).standard_normal((3, genome.size))
    [case, *_] = replay_cases(config, 0, 0)
    with make_engine("in-process", partial(Evaluator, (), ()), threads=1) as engine:
        found = evaluate_replay(engine, genome, vectors, [case], rows)
    costs = [
        replayed(
            Record(Path(case.record)),
            case.layers,
            list(case.rows),
            Pruning(policy, case.update_interval, case.budget),
        )
        for policy in (Recency(), *(NAMMPolicy(genome.namm(one[None])) for one in vectors))
    ]
    for number, cost in enumerate(costs[1:]):
        expected = sum(
            -weight * np.log((getattr(cost, name)[0] / getattr(costs[0], name)[0] + 0.05) / 1.05)
            for name, weight in (("loss", 0.7), ("outputs", 0.3))
        )
        assert found.fitness[number] == pytest.approx(expected, abs=1e-4)
        assert found.kept[number] == pytest.approx(cost.kept[0])
    assert np.ptp(found.fitness) > 1e-3


@pytest.mark.parametrize("search", ["diagonal", "climb"])
def test_a_search_on_records_says_what_it_replayed_and_resumes_to_the_same_bits(
    replaying, ledger_of, tmp_path, search
):
    told = {"generations": 4, "validate_every": 2, "records": 1, "sigma": 0.3, "search": search}
    config, again = replaying(**told), tmp_path / "again"
    evolve(config)
    ledger = ledger_of(config.out)
    assert all(set(line["cases"][0]) >= {"record", "layers", "budget"} for line in ledger)
    assert ledger[0]["cases"][0]["record"].split("/")[0] == "long"
    card = (config.out / "namm" / "CARD.md").read_text()
    assert "    transfer record --out long\n    transfer record --out short\n" in card
    assert "Evolved on the recorded attention\nof tiny; what was kept was chosen on lang" in card
    held_out = [line["validation"]["mean"]["replay"] for line in (ledger[1], ledger[-1])]
    assert np.isfinite(held_out).all() and len(set(held_out)) == 2
    evolve(replaying(**told | {"generations": 3}, out=again))
    path = again / "seed-0" / "ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))
    evolve(replaying(**told, out=again, resume=True))
    assert ledger_of(again) == ledger


def test_a_slope_is_that_of_the_fitness(replaying):
    """Steps along it alone raise what the same records give."""
    config = replaying(search="climb", budget=(8,), update_interval=(16,))
    genome = Genome(NAMMConfig(features="log", hidden=3), (0.0,) * 17, (1.0,) * 17)
    vector = 0.3 * np.random.default_rng(0).standard_normal(genome.size)
    cases = replay_cases(config, 0, 0)
    assert {len(case.layers) for case in cases} <= {2, 3}
    found = []
    with make_engine("in-process", partial(Evaluator, (), ()), threads=1) as engine:
        for step in range(25):
            now = climbing(engine, genome, vector, cases)
            if step in (0, 24):
                [ranked] = evaluate_replay(engine, genome, vector[None], cases, 64).fitness
                assert now.fitness[0] == pytest.approx(ranked, abs=0.02)
            found.append(now.fitness[0])
            assert now.slope is not None
            vector = vector + 0.05 * now.slope / np.abs(now.slope).max()
    assert np.mean(found[-5:]) > np.mean(found[:5]) + 0.02


@pytest.mark.parametrize("scorer", ["bam", "mlp", "linear"])
def test_a_climb_moves_every_piece_of_a_scorer(replaying, scorer):
    config = replaying(search="climb", budget=(8,), update_interval=(16,))
    namm = NAMMConfig(features="log", hidden=3, scorer=scorer)
    genome = Genome(namm, (0.0,) * 17, (1.0,) * 17)
    vector = genome.vector(genome.uphill())
    cases = replay_cases(config, 0, 0)[:2]
    reached = np.zeros(genome.size, bool)
    with make_engine("in-process", partial(Evaluator, (), ()), threads=1) as engine:
        # The score first, then what it reads, then what that reads.
        for _ in range(3):
            slope = climbing(engine, genome, vector, cases).slope
            reached |= np.abs(slope) > 1e-6 * np.abs(slope).max()
            vector = vector + 0.1 * slope / np.abs(slope).max()
    for name, piece in split(torch.from_numpy(1.0 * reached)[None], namm.shapes).items():
        # What is added to all scores changes no rank.
        assert piece.any() or name == "score_bias", name


@pytest.mark.parametrize("more", [{"replay": ()}, {"evolve_gamma": True}])
def test_a_climb_needs_records_and_leaves_the_decay(replaying, more):
    with pytest.raises(UserError, match="--search climb needs the slope"):
        replaying(search="climb", **more)


def test_what_is_searched_on_is_not_held_out(configured, tmp_path):
    same = tmp_path / "run" / ".." / "some"
    with pytest.raises(
        UserError, match=r"--held-out .*some is of --replay too; hold other records"
    ):
        configured(replay=(tmp_path / "some",), held_out=(same,))


def test_a_run_is_not_resumed_on_other_records(replaying, folders):
    evolve(replaying(generations=1))
    run = json.loads((replaying().out / "run.json").read_text())
    assert list(run["records"]) == [*map(str, folders)]
    saved(folders[1] / "2.safetensors", 3, 48, layers=8)
    with pytest.raises(UserError, match=r"short holds other records than when .*run was begun"):
        evolve(replaying(generations=2, resume=True))


@pytest.mark.parametrize("option", ["replay", "held_out"])
def test_records_that_are_not_there_are_named(configured, tmp_path, option, monkeypatch):
    monkeypatch.setattr("transfer.evolution.evolve.make_engine", lambda *told: pytest.fail("late"))
    with pytest.raises(UserError, match="nowhere holds no records"):
        evolve(configured(**{option: (tmp_path / "nowhere",)}))

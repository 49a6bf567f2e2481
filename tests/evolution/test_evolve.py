"""What a run writes, what it keeps, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from transfer.errors import UserError
from transfer.evolution import evolve as module
from transfer.evolution.evolve import evolve
from transfer.evolution.fitness import Evaluation
from transfer.evolution.genome import Genome
from transfer.evolution.measured import Seconds
from transfer.evolution.search import make_search
from transfer.namm.network import NAMM, NAMMConfig


@pytest.fixture
def made_up(monkeypatch):
    """Replaces the models by a function of the vectors."""

    def use(fitness):
        def evaluate(engine, genome, vectors, cases, weights, rows):
            value = fitness(vectors)
            share = np.full(len(vectors), 0.25)
            return Evaluation(value, value, value, value * 0, share, Seconds(0.1, 0.1, 0.1))

        monkeypatch.setattr(module, "evaluate", evaluate)

    return use


def vector_in(folder):
    return load_file(folder / "namm.safetensors")["vector"][0].numpy()


def test_a_run_leaves_a_namm_a_ledger_and_a_card(configured, ledger_of):
    config = configured(seeds=(0, 3), tasks=("recall", "passkey"))
    namm = evolve(config)
    run = json.loads((config.out / "run.json").read_text())
    assert set(run["results"]) == {"0", "3"}
    best = max(run["results"].values(), key=lambda found: found["fitness"])
    assert run["results"][str(run["chosen"])] == best
    assert torch.equal(NAMM.from_pretrained(config.out / "namm").vector, namm.vector)
    chosen = config.out / f"seed-{run['chosen']}" / "namm"
    assert torch.equal(NAMM.from_pretrained(chosen).vector, namm.vector)
    records = ledger_of(config.out)
    assert [record["generation"] for record in records] == [0, 1, 2, 3]
    assert [case["task"] for case in records[0]["cases"]] == ["recall", "passkey"]
    assert all(len(record["fitness"]) == len(record["kept"]) == 4 for record in records)
    assert [bool(record["validation"]) for record in records] == [False, True, False, True]
    held = [v["fitness"] for r in records if r["validation"] for v in r["validation"].values()]
    assert run["results"]["0"]["fitness"] == max(held)
    card = (config.out / "namm" / "CARD.md").read_text()
    assert run["command"] in card
    assert "No video and no control" in card
    assert str(config.out.parent) not in card
    assert "--seeds 0 3" in run["command"]


def test_the_time_of_a_generation_is_split(configured):
    config = configured(generations=2)
    evolve(config)
    lines = (config.out / "seed-0" / "ledger.jsonl").read_text().splitlines()
    for seconds in (json.loads(line)["seconds"] for line in lines):
        parts = {name: value for name, value in seconds.items() if name != "total"}
        names = {"model", "features", "scoring", "simulator", "optimiser", "validation"}
        assert set(parts) == names
        assert min(parts["model"], parts["features"], parts["scoring"], parts["optimiser"]) > 0
        assert sum(parts.values()) <= seconds["total"]


@pytest.mark.parametrize("search", ["diagonal", "full", "isotropic", "random"])
def test_it_climbs(configured, made_up, search):
    made_up(lambda vectors: -np.square(vectors - 0.5).sum(1))
    config = configured(search=search, generations=60, population=8, hidden=1)
    evolve(config)
    run = json.loads((config.out / "run.json").read_text())
    reached = run["results"]["0"]["fitness"]
    at_the_start = -0.25 * config.namm.size
    assert reached > at_the_start * (0.99 if search == "random" else 0.8)
    found = -np.square(vector_in(config.out / "namm") - 0.5).sum()
    assert found == pytest.approx(reached, rel=1e-5)


def test_the_validated_best_is_kept_not_the_last(configured, made_up):
    """The held-out score falls after the first validation; what was best then is kept."""
    calls = []

    def fitness(vectors):
        if len(vectors) == 2:
            calls.append(len(calls))
            return np.array([-float(len(calls)), -9.0])
        return vectors[:, 0]

    made_up(fitness)
    config = configured()
    evolve(config)
    result = json.loads((config.out / "run.json").read_text())["results"]["0"]
    assert (result["which"], result["generation"], result["fitness"]) == ("mean", 1, -1.0)
    kept, last = (vector_in(config.out / "seed-0" / name) for name in ("namm", "last"))
    assert kept[0] < last[0]


def test_a_candidate_can_beat_the_mean(configured, made_up):
    made_up(lambda vectors: np.array([0.0, 1.0]) if len(vectors) == 2 else vectors[:, 0])
    config = configured(generations=2)
    evolve(config)
    result = json.loads((config.out / "run.json").read_text())["results"]["0"]
    assert result["which"] == "best"
    search = make_search("diagonal", np.zeros(config.namm.size), config.search_settings(0))
    populations = []
    for _ in range(2):
        populations.append(search.ask())
        search.tell(populations[-1][:, 0])
    advantage = [p[:, 0].max() - p[:, 0].mean() for p in populations]
    best = populations[int(np.argmax(advantage))]
    expected = best[best[:, 0].argmax()].astype(np.float32)
    assert (vector_in(config.out / "namm") == expected).all()


def test_a_nan_takes_the_worst_rank_and_is_named(configured, made_up, capsys, ledger_of):
    def fitness(vectors):
        value = vectors[:, 0].copy()
        if len(vectors) == 4:
            value[2] = np.nan
        return value

    made_up(fitness)
    config = configured(search="isotropic", generations=2)
    evolve(config)
    said = " ".join(capsys.readouterr().err.split())
    assert "generation 0: the fitness of candidate 2 is not a number" in said
    assert ledger_of(config.out)[0]["fitness"][2] is None
    search = make_search("isotropic", np.zeros(config.namm.size), config.search_settings(0))
    for _ in range(2):
        value = search.ask()[:, 0].copy()
        value[2] = -1e9
        search.tell(value)
    last = vector_in(config.out / "seed-0" / "last")
    assert (last == search.mean.astype(np.float32)).all()


def test_nothing_but_nan_ends_the_run_in_one_sentence(configured, made_up):
    made_up(lambda vectors: np.full(len(vectors), np.nan))
    with pytest.raises(UserError, match="no candidate of generation 0 has a fitness"):
        evolve(configured())


def test_a_folder_with_a_run_is_not_written_over(configured):
    evolve(configured(generations=1))
    with pytest.raises(UserError, match="holds a run; add --resume"):
        evolve(configured(generations=1))


def test_resuming_with_other_settings_names_them(configured):
    evolve(configured(generations=1))
    with pytest.raises(UserError, match="with --population 4, this command says 6; say the same"):
        evolve(configured(generations=1, resume=True, population=6))
    with pytest.raises(UserError, match="with --budget 12 24, this command says none"):
        evolve(configured(generations=1, resume=True, budget=()))


def test_a_start_of_other_features_is_refused(configured, tmp_path):
    NAMM(NAMMConfig(features="spec", hidden=3)).save_pretrained(tmp_path / "spec")
    with pytest.raises(UserError, match=r"log leave out some of spec.*use spec\+log"):
        evolve(configured(init=str(tmp_path / "spec")))


def test_a_start_of_fewer_features_is_gone_on_with(configured, tmp_path, made_up):
    made_up(lambda vectors: -np.abs(vectors).mean(1))
    config = NAMMConfig(features="log", hidden=3, gamma=0.97)
    narrow = NAMM(config, torch.randn(config.size), torch.randn(17), torch.rand(17) + 0.1)
    narrow.save_pretrained(tmp_path / "narrow")
    run = configured(init=str(tmp_path / "narrow"), features="universal_norms", generations=2)
    evolved = evolve(run)
    start = NAMM.from_pretrained(run.out / "start")
    assert evolved.config == start.config == replace(config, features="universal_norms")
    told = {"age": torch.arange(9).flip(0).expand(2, -1), "norms": torch.rand(2, 9, 2)}
    state = torch.rand(2, 9, 34, dtype=torch.float64)
    before = narrow.score(state[..., :17], told["age"])
    torch.testing.assert_close(start.score(state, **told), before)
    # What is new has statistics of its own, of the documents.
    assert torch.equal(start.mean[:17], narrow.mean)
    assert (start.std[17:] > 0).all() and (start.mean[17:34].abs() < 1e-3).all()
    evolve(replace(run, resume=True, generations=3))


def test_a_start_gives_mean_statistics_and_decay(configured, tmp_path, made_up):
    made_up(lambda vectors: -np.abs(vectors).mean(1))
    config = NAMMConfig(features="log", hidden=3, gamma=0.97)
    start = NAMM(config, torch.full((config.size,), 2.0), torch.randn(17), torch.rand(17))
    start.save_pretrained(tmp_path / "start")
    run = configured(init=str(tmp_path / "start"), generations=2)
    namm = evolve(run)
    assert json.loads((run.out / "run.json").read_text())["earlier_commands"] == []
    assert namm.config == start.config
    assert torch.equal(namm.mean, start.mean)
    assert torch.equal(namm.std, start.std)
    assert (namm.vector - 2).abs().max() < 0.6


def test_a_stage_goes_on_with_the_whole_search_and_a_task_more(configured, made_up, ledger_of):
    made_up(lambda vectors: -np.abs(vectors - 0.5).mean(1))
    first = configured(generations=6)
    evolve(first)
    second = configured(
        out=first.out.parent / "second",
        init=str(first.out),
        tasks=("recall", "passkey"),
        generations=9,
    )
    evolve(second)
    told = json.loads((second.out / "run.json").read_text())
    assert told["earlier_commands"] == [json.loads((first.out / "run.json").read_text())["command"]]
    card = (second.out / "namm" / "CARD.md").read_text()
    assert card.index(told["earlier_commands"][0]) < card.index(told["command"])
    records = ledger_of(second.out)
    assert records[:6] == ledger_of(first.out)
    assert len({record["run"] for record in records}) == 2
    assert [record["stage"] for record in records] == [0] * 6 + [1] * 3
    assert [len(record["cases"]) for record in records] == [1] * 6 + [2] * 3
    whole = configured(out=first.out.parent / "whole", generations=9)
    evolve(whole)
    assert [r["population"] for r in records] == [r["population"] for r in ledger_of(whole.out)]


def test_only_validations_of_its_own_stage_choose(configured, made_up):
    made_up(lambda vectors: 5.0 + vectors[:, 0])
    first = configured(generations=4)
    evolve(first)
    made_up(lambda vectors: vectors[:, 0])
    second = configured(out=first.out.parent / "second", init=str(first.out), generations=6)
    evolve(second)
    result = json.loads((second.out / "run.json").read_text())["results"]["0"]
    assert result["generation"] == 5
    assert result["fitness"] < 5


def test_a_stage_with_another_search_or_nothing_left_to_do_is_refused(configured):
    first = configured(generations=2)
    evolve(first)
    changes = {"out": first.out.parent / "second", "init": str(first.out)}
    with pytest.raises(UserError, match=r"was evolved with --sigma 0\.065"):
        evolve(configured(**changes, sigma=0.1, generations=4))
    with pytest.raises(UserError, match="has made 2 generations with seed 0"):
        evolve(configured(**changes, generations=2))
    with pytest.raises(UserError, match="there is no ledger"):
        evolve(configured(**changes, generations=4, seeds=(1,)))
    evolve(configured(**changes, generations=3))
    with pytest.raises(UserError, match="there is no ledger"):
        evolve(configured(**changes, generations=3, seeds=(0, 1), resume=True))


def test_a_searched_decay_travels_with_the_namm(configured):
    config = configured(evolve_gamma=True, generations=2)
    namm = evolve(config)
    assert namm.config.gamma != 0.99
    assert 0.98 < namm.config.gamma < 0.995
    assert NAMM.from_pretrained(config.out / "namm").config == namm.config


def test_the_mlp_and_the_papers_features_evolve_too(configured):
    namm = evolve(configured(scorer="mlp", features="spec", generations=1, budget=()))
    assert (namm.config.scorer, namm.config.features) == ("mlp", "spec")


def test_several_models_take_part(configured, llama_folder, gpt2_folder, ledger_of):
    config = configured(models=(llama_folder, gpt2_folder), generations=1)
    evolve(config)
    cases = ledger_of(config.out)[0]["cases"]
    assert [case["model"] for case in cases] == [llama_folder, gpt2_folder]


def test_a_full_disk_ends_the_run_in_one_sentence_and_loses_nothing(
    configured, monkeypatch, ledger_of
):
    config, whole = configured(), configured(out=configured().out.parent / "whole")
    evolve(whole)
    saved = []

    def full(namm, folder):
        saved.append(folder)
        if len(saved) == 4:
            raise OSError(28, "No space left on device")
        original(namm, folder)

    original = NAMM.save_pretrained
    monkeypatch.setattr(NAMM, "save_pretrained", full)
    with pytest.raises(UserError, match=r"No space left on device; make room .* --resume"):
        evolve(config)
    monkeypatch.undo()
    done = ledger_of(config.out)
    assert 0 < len(done) <= 4
    evolve(configured(resume=True))
    assert ledger_of(config.out) == ledger_of(whole.out)


def test_genome_of_the_start_is_what_the_ledger_was_made_from(configured):
    config = configured(generations=1)
    evolve(config)
    start = NAMM.from_pretrained(config.out / "start")
    assert Genome.of(start, False).start().vector.equal(start.vector)
    assert start.std.min() > 0

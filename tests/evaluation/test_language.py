"""Language runs with a tiny random Llama that reads the symbols of the recall tasks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from evaluated import changed, failures_of, printed, rows_of, timeless

from transfer import NAMM, NAMMConfig
from transfer.adapters.scoring import score_batch
from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation import language_benchmark
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.language_benchmark import LanguageBenchmark
from transfer.evaluation.runner import evaluate
from transfer.evaluation.store import read_results
from transfer.plugins import POLICIES
from transfer.tasks.recall import TASKS, make_batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny.llama(vocabulary=128).save_pretrained(path)
    NAMM(NAMMConfig()).save_pretrained(path.parent / "namm")
    return path


@pytest.fixture
def config(folder):
    return changed(
        LanguageEval(model=str(folder), length=(128,), documents=5, batch=2),
        policy=("h2o", "recency"),
        namm=(str(folder.parent / "namm"),),
        budget=(16, 0.25),
        threads=1,
    )


def readers(config):
    return [one.name for one in LanguageBenchmark(config).contenders()]


def test_every_reader_reads_the_same_documents_at_every_budget(config, tmp_path):
    results = evaluate(changed(config, out=tmp_path))
    cells = {(row["policy"], row["budget"]) for row in results.rows}
    assert cells == {("full", None), *((p, b) for p in ("h2o", "recency") for b in (16, 0.25))}
    for cell in cells:
        seeds = [r["item"] for r in results.rows if (r["policy"], r["budget"]) == cell]
        assert seeds == [0, 1, 2, 3, 4]
    assert len(results.summary) == 5 * 3
    assert read_results(tmp_path).as_json() == results.as_json()
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == results.rows


def test_no_number_of_the_table_goes_on_in_another_line(config):
    wide = dict.fromkeys(("mean", "low", "high"), 0.521)
    wide |= dict.fromkeys(("delta_vs_full", "delta_low", "delta_high"), -0.477)
    results = evaluate(config)
    results = replace(results, summary=[{**entry, **wide} for entry in results.summary])
    rows = [line for line in printed(results).splitlines() if line.startswith((" h2o", " rec"))]
    # Scores, and what is held.
    assert len(rows) == 8
    rows = [line for line in rows if "[" in line]
    assert len(rows) == 4
    assert all(line.count("[") == line.count("]") == 3 for line in rows)


def test_full_is_the_model_itself_and_budgets_are_kept(config, folder):
    results = evaluate(config)
    model = tiny.llama(vocabulary=128).from_pretrained(folder).eval()
    scores = score_batch(model, make_batch(TASKS["recall"], 128, range(5)))
    full = rows_of(results, "full")
    likelihood = torch.tensor([row["log_likelihood"] for row in full])
    torch.testing.assert_close(likelihood, scores.log_likelihood, rtol=1e-4, atol=1e-5)
    assert {row["kept_tokens"] for row in full} == {128}
    pruned = rows_of(results, "recency")
    assert {(row["budget"], row["kept_tokens"]) for row in pruned} == {(16, 16), (0.25, 32)}
    for row in pruned:
        assert row["cache_bytes"] < 0.6 * row["full_bytes"]
        assert row["cache_bytes"] <= row["peak_bytes"] and row["kept"] == row["kept_tokens"] / 128


def test_summary_is_the_mean_with_the_paired_difference(config):
    results = evaluate(config)
    for entry in results.summary:
        rows = rows_of(results, entry["policy"], budget=entry["budget"])
        full = rows_of(results, "full")
        metric = entry["metric"]
        mean = sum(row[metric] for row in rows) / 5
        assert entry["mean"] == pytest.approx(mean)
        assert entry["low"] <= mean <= entry["high"]
        delta = mean - sum(row[metric] for row in full) / 5
        assert entry["delta_vs_full"] == pytest.approx(delta, abs=1e-9)


def test_the_same_run_twice_gives_the_same_rows(config):
    config = changed(config, budget=(16,), documents=3)
    assert timeless(evaluate(config).rows) == timeless(evaluate(config).rows)


def test_all_means_every_policy(config):
    names = readers(changed(config, policy=("all",), budget=(16,)))
    assert names == ["full", *sorted(set(POLICIES.built_in) - {"full"})]
    own = readers(changed(config, policy=("all",), budget=(None,)))
    assert own == ["full", "fastgen", "namm"]


def test_ctrl_c_keeps_the_documents_done(config, monkeypatch, tmp_path):
    calls = []

    def stop(*args, **kwargs):
        calls.append(1)
        if len(calls) > 7:
            raise KeyboardInterrupt
        return score_batch(*args, **kwargs)

    monkeypatch.setattr(language_benchmark, "score_batch", stop)
    results = evaluate(changed(config, out=tmp_path))
    assert results.interrupted
    # Five contenders read the first two documents, two of them the next two.
    assert [(row["policy"], row["budget"]) for row in results.rows[-4:]] == [
        ("full", None), ("full", None), ("h2o", 16), ("h2o", 16),
    ]  # fmt: skip
    assert len(results.rows) == 7 * 2
    n = {(entry["policy"], entry["budget"]): entry["n"] for entry in results.summary}
    assert n == {
        ("full", None): 4,
        ("h2o", 16): 4,
        ("h2o", 0.25): 2,
        ("recency", 16): 2,
        ("recency", 0.25): 2,
    }
    assert read_results(tmp_path).as_json() == results.as_json()


def test_documents_for_which_there_is_no_memory_are_failed_rows(config, monkeypatch):
    calls = []

    def scarce(*args, **kwargs):
        calls.append(1)
        if len(calls) == 7:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
        return score_batch(*args, **kwargs)

    monkeypatch.setattr(language_benchmark, "score_batch", scarce)
    results = evaluate(config)
    assert len(results.rows) == 5 * 5
    assert list(failures_of(results)) == [2, 3]
    assert [(r["policy"], r["budget"]) for r in results.rows if r["failure"]] == [("h2o", 16)] * 2
    entry = next(e for e in results.summary if (e["policy"], e["budget"]) == ("h2o", 16))
    assert (entry["n"], entry["failed"]) == (3, 2)


def test_the_command_line_prints_a_table_and_json(config, capsys):
    words = ["eval", "--model", config.model, "--policy", "recency", "--budget", "16"]
    words += ["--length", "128", "--documents", "3", "--task", "needle", "passkey"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert table.count("recency") == 4
    assert "on passkey, 128 tokens, 3 documents" in table
    assert max(map(len, table.splitlines())) <= 100
    assert main([*words, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["summary"]) == 2 * 2 * 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"documents": 0}, "documents is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"task": ()}, "no task was named"),
        ({"seed": -1}, "seed is -1"),
        ({"length": (0,)}, "length is 0"),
        ({"task": ("recal",)}, "unknown task 'recal'; did you mean recall"),
        ({"task": ("own.json",)}, r"own\.json is a file and no task; a model without a tokenizer"),
        ({"depth": (0.5, 1.0)}, r"--depth 0\.5 1\.0: for models of symbols use one"),
        ({"depth": (1.5,)}, r"depth 1\.5 is no share"),
        ({"policy": ("h20",)}, "unknown policy 'h20'"),
        ({"policy": ("namm",), "namm": ("nobody",)}, "unknown NAMM 'nobody'"),
        ({"budget": (None,)}, "give it a budget"),
        ({"length": (5000,)}, "longer than the 4096 positions"),
        ({"length": (20,)}, "cannot hold"),
        ({"data": Path("texts")}, "--data is of no use for .*, a model of symbols, which reads no"),
        ({"question": ("seen",)}, "--question is of no use for .*, a model of symbols"),
        ({"max_length": 64}, "--max-length is of no use for"),
        # The first document fits into 50 tokens, a later one does not.
        ({"length": (50,)}, "50 tokens cannot hold this task's facts and questions, which are 57"),
    ],
)
def test_bad_input_is_one_sentence(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(changed(config, **changes))


def test_an_unknown_model_is_answered_with_the_known_ones(capsys):
    assert main(["eval", "--model", "lama-recall"]) == 2
    assert "did you mean llama-recall" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["mine.jsonl", "longbench", "ruler/vt"])
def test_symbols_are_no_text(config, task):
    with pytest.raises(UserError, match=f"has no tokenizer to read {task} with; use a model of"):
        evaluate(changed(config, task=(task,)))


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(config, tmp_path, monkeypatch):
    whole = evaluate(changed(config, out=tmp_path / "whole"))
    killed, read = changed(config, out=tmp_path / "killed"), []

    def dying(*args):
        read.append(args)
        if len(read) == 8:
            raise ZeroDivisionError("killed")
        return score_batch(*args)

    monkeypatch.setattr(language_benchmark, "score_batch", dying)
    with pytest.raises(ZeroDivisionError):
        evaluate(killed)
    # Cut within the rows of the eighth time that a batch was read.
    with (killed.run.out / "rows.jsonl").open("a") as file:
        file.write(json.dumps(whole.rows[14]) + "\n" + '{"model')
    resumed = evaluate(killed)
    assert len(read) == 8 + 8
    assert timeless(resumed.rows) == timeless(whole.rows)
    assert evaluate(killed).rows == resumed.rows
    assert len(read) == 8 + 8
    with pytest.raises(UserError, match=r"holds a run with documents 5, not 4"):
        evaluate(changed(killed, documents=4))

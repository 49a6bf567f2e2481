"""Language runs with a tiny random Llama that reads the symbols of the recall tasks."""

import json
from dataclasses import replace
from io import StringIO

import pytest
import tiny
import torch
from rich.console import Console
from tasks.words import word_tokenizer

from transfer import NAMM, NAMMConfig
from transfer.adapters.language_model import load_language_model
from transfer.adapters.scoring import score_batch
from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation import language_run
from transfer.evaluation.language import LanguageEval, evaluate_language
from transfer.evaluation.language_run import plan
from transfer.evaluation.language_summary import tables
from transfer.evaluation.results import read_results
from transfer.policies import POLICIES
from transfer.tasks.recall import TASKS, make_batch
from transfer.tasks.records import Record, encode_record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny.llama(vocabulary=128).save_pretrained(path)
    NAMM(NAMMConfig()).save_pretrained(path.parent / "namm")
    return path


@pytest.fixture
def config(folder):
    return LanguageEval(
        model=str(folder),
        policy=("h2o", "recency"),
        namm=(str(folder.parent / "namm"),),
        budget=(16, 0.25),
        length=(128,),
        documents=5,
        batch=2,
        threads=1,
    )


def test_every_reader_reads_the_same_documents_at_every_budget(config, tmp_path):
    results = evaluate_language(replace(config, out=tmp_path))
    cells = {(row["policy"], row["budget"]) for row in results.rows}
    assert cells == {("full", None), *((p, b) for p in ("h2o", "recency") for b in (16, 0.25))}
    for cell in cells:
        seeds = [r["seed"] for r in results.rows if (r["policy"], r["budget"]) == cell]
        assert seeds == [0, 1, 2, 3, 4]
    assert len(results.summary) == 5 * 3
    assert read_results(tmp_path) == results
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == results.rows


def test_full_is_the_model_itself_and_budgets_are_kept(config, folder):
    results = evaluate_language(config)
    model = tiny.llama(vocabulary=128).from_pretrained(folder).eval()
    scores = score_batch(model, make_batch(TASKS["recall"], 128, range(5)))
    full = [row for row in results.rows if row["policy"] == "full"]
    likelihood = torch.tensor([row["log_likelihood"] for row in full])
    torch.testing.assert_close(likelihood, scores.log_likelihood, rtol=1e-4, atol=1e-5)
    assert {row["kept_tokens"] for row in full} == {128}
    pruned = [row for row in results.rows if row["policy"] == "recency"]
    assert {(row["budget"], row["kept_tokens"]) for row in pruned} == {(16, 16), (0.25, 32)}
    assert all(row["cache_bytes"] < 0.6 * row["full_bytes"] for row in pruned)


def test_summary_is_the_mean_with_the_paired_difference(config):
    results = evaluate_language(config)
    for entry in results.summary:
        rows = [
            row
            for row in results.rows
            if (row["policy"], row["budget"]) == (entry["policy"], entry["budget"])
        ]
        full = [row for row in results.rows if row["policy"] == "full"]
        metric = entry["metric"]
        mean = sum(row[metric] for row in rows) / 5
        assert entry["mean"] == pytest.approx(mean)
        assert entry["low"] <= mean <= entry["high"]
        delta = mean - sum(row[metric] for row in full) / 5
        assert entry["delta_vs_full"] == pytest.approx(delta, abs=1e-9)


def test_the_same_run_twice_gives_the_same_rows(config):
    assert evaluate_language(config).rows == evaluate_language(config).rows


def test_all_means_every_policy_and_every_namm(config):
    names = [reader.name for reader in plan(replace(config, policy=("all",), budget=(16,)))]
    assert names == ["full", *sorted(set(POLICIES) - {"full"})]
    own = [reader.name for reader in plan(replace(config, policy=("all",), budget=(None,)))]
    assert own == ["full", "fastgen", "namm"]


def test_several_namms_have_names_of_their_own(config, folder):
    NAMM(NAMMConfig()).save_pretrained(folder.parent / "other")
    NAMM(NAMMConfig()).save_pretrained(folder.parent / "deep" / "namm")

    def names(*more):
        namms = (config.namm[0], *(str(folder.parent / name) for name in more))
        return [r.name for r in plan(replace(config, policy=("namm",), namm=namms, budget=(16,)))]

    assert names("other") == ["full", "namm", "namm other"]
    assert len(set(names("deep/namm"))) == 3


def test_ctrl_c_keeps_the_documents_done(config, monkeypatch, tmp_path):
    calls = []

    def stop(*args, **kwargs):
        calls.append(1)
        if len(calls) > 7:
            raise KeyboardInterrupt
        return score_batch(*args, **kwargs)

    monkeypatch.setattr("transfer.evaluation.language_run.score_batch", stop)
    results = evaluate_language(replace(config, out=tmp_path))
    assert results.interrupted
    assert len(results.rows) == 7 * 2
    assert read_results(tmp_path).summary[0]["n"] == 4


def test_the_command_line_prints_a_table_and_json(config, capsys):
    words = ["eval", "--model", config.model, "--policy", "recency", "--budget", "16"]
    words += ["--length", "128", "--documents", "3", "--task", "needle", "passkey"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert table.count("recency") == 2
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
        ({"policy": ("h20",)}, "unknown policy 'h20'"),
        ({"policy": ("namm",), "namm": ("nobody",)}, "unknown NAMM 'nobody'"),
        ({"budget": (None,)}, "give it a budget"),
        ({"budget": (24, 24.0)}, "budget 24 24.0: name each once"),
        ({"policy": ("h2o", "h2o")}, "name each once"),
        ({"length": (5000,)}, "longer than the 4096 positions"),
        ({"length": (20,)}, "cannot hold"),
    ],
)
def test_bad_input_is_one_sentence(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate_language(replace(config, **changes))


def test_an_unknown_model_is_answered_with_the_known_ones(capsys):
    assert main(["eval", "--model", "lama-recall"]) == 2
    assert "did you mean llama-recall" in capsys.readouterr().err


def test_a_file_of_ones_own_questions(config, tmp_path):
    model = tmp_path / "text"
    tokenizer = word_tokenizer()
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained(model)
    tokenizer.save_pretrained(model)
    file = tmp_path / "mine.jsonl"
    prompts = ["The lamp is red. " * 12 + "The lamp is", "The box is blue. " * 20 + "The box is"]
    answers = ["red.", "blue."]
    file.write_text(
        "".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in zip(prompts, answers))
    )
    results = evaluate_language(replace(config, model=str(model), task=(str(file),)))
    full = [row for row in results.rows if row["policy"] == "full"]
    assert [row["seed"] for row in full] == [0, 1]
    assert full[0]["tokens"] < full[1]["tokens"]
    loaded = load_language_model(str(model))
    for row, prompt, answer in zip(full, prompts, answers):
        batch = encode_record(Record(prompt, answer), loaded.tokenizer)
        likelihood = score_batch(loaded.model, batch).log_likelihood.item()
        assert row["log_likelihood"] == pytest.approx(likelihood, rel=1e-5)
    quarter = next(e for e in results.summary if e["policy"] == "h2o" and e["budget"] == 0.25)
    assert quarter["n"] == 2 and 0.25 <= quarter["kept"] < 0.6 and quarter["length"] is None
    said = StringIO()
    Console(width=200, file=said).print(tables(results))
    assert "mine.jsonl, 2 documents" in " ".join(said.getvalue().split())


def test_bad_task_files(config, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text("")
    with pytest.raises(UserError, match=r"mine\.jsonl is empty; give one JSON line"):
        evaluate_language(replace(config, task=(str(file),)))
    file.write_text('{"prompt": "?", "answer": "!"}\n')
    with pytest.raises(UserError, match=r"has no tokenizer to read .*mine\.jsonl with"):
        evaluate_language(replace(config, task=(str(file),)))


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(config, tmp_path, monkeypatch):
    whole = evaluate_language(replace(config, out=tmp_path / "whole"))
    killed, read = replace(config, out=tmp_path / "killed"), []
    original = language_run.score_batch

    def dying(*args):
        read.append(args)
        if len(read) == 8:
            raise ZeroDivisionError("killed")
        return original(*args)

    monkeypatch.setattr(language_run, "score_batch", dying)
    with pytest.raises(ZeroDivisionError):
        evaluate_language(killed)
    # Cut within the rows of the eighth block.
    with (killed.out / "rows.jsonl").open("a") as file:
        file.write(json.dumps(whole.rows[14]) + "\n" + '{"model')
    resumed = evaluate_language(killed)
    assert len(read) == 8 + 8
    assert resumed.rows == whole.rows
    assert evaluate_language(killed).rows == whole.rows
    assert len(read) == 8 + 8
    with pytest.raises(UserError, match=r"holds a run with documents 5, not 4"):
        evaluate_language(replace(killed, documents=4))

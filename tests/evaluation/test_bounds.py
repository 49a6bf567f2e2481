"""What is known to be too much is refused before work begins; models that give no numbers."""

import json
import re
import time

import pytest
import tiny
import torch
from tasks.words import word_tokenizer

from transfer.cli import main


@pytest.fixture
def reader(tmp_path):
    """A model of 4096 positions that reads words."""
    tokenizer = word_tokenizer()
    tiny.llama(layers=1, vocabulary=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_question_of_ten_megabytes(reader, tmp_path, capsys):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"prompt": "red " * 2_500_000, "answer": "red"}))
    began = time.perf_counter()
    assert main(["eval", "--model", str(reader), "--task", str(path)]) == 2
    said = "question 0 of .* of 9,999,999 characters has more than the 4096 tokens"
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(said, line), line
    assert time.perf_counter() - began < 20


WORDS = {
    "--length 100000000000": "--length is 100000000000; use at most 10,000,000",
    "--length 5000": "a document of 5000 tokens is longer than the 4096 positions",
    "--documents 100000000000": "--documents is 100000000000; use at most 1,000,000",
    "--documents 1000000 --batch 1000000": "use a smaller --batch",
    "--threads 1000000000": "--threads is 1000000000; use at most 1,024",
    "--workers 1000000000": "--workers is 1000000000; use at most 1,024",
    "--budget 1e300": "budget 1e+300",
    "--budget 100000000000": "budget 100000000000 is too large",
    "--budget nan": "budget nan",
    "--update-interval 100000000000": "--update-interval is 100000000000; use at most 1,000,000",
    "--seed -1": "--seed is -1; use 0 or more",
    "--depth nan": "depth nan",
    "--out=": "--out= says nothing; give it a value",
    "--out ": "--out says nothing; give it a value",
}


@pytest.mark.parametrize("words", WORDS)
def test_options_out_of_bounds(reader, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "language", "--model", str(reader), *words.split(" ")]) == 2
    assert WORDS[words] in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_evolution_knows_the_positions_before_it_makes_documents(reader, tmp_path, capsys):
    words = f"evolve --out {tmp_path / 'run'} --models {reader} --lengths 5000 --budget 0.5"
    assert main(words.split()) == 2
    assert "a document of 5000 tokens is longer than the 4096" in capsys.readouterr().err


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_of_no_numbers_is_a_failure_in_words(tmp_path, capsys, value):
    from transfer.adapters.language_model import load_language_model

    model = load_language_model("llama-recall").model
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(value)
    model.save_pretrained(tmp_path / "model")
    words = f"eval language --model {tmp_path / 'model'} --documents 2 --length 128 --budget 0.5"
    assert main(words.split()) == 1
    said = capsys.readouterr()
    assert "error: every item of full" in said.err
    assert "answer_probability is nan; use another --dtype" in said.out


@pytest.mark.parametrize(
    "policy",
    [
        "random:seed=1000000000000000000000", "random:seed=0.5", "snapkv:kernel=10000000001",
        "snapkv:kernel=5.0", "snapkv:observe=2.5", "recency:sinks=1e300",
        "fastgen:first=99999999999",
    ],
)  # fmt: skip
def test_settings_of_a_policy_are_whole_and_bounded(policy, capsys):
    words = f"eval language --model llama-recall --documents 1 --length 96 --policy {policy}"
    assert main(words.split()) == 2
    assert "use a whole number up to 10,000,000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("num_hidden_layers", -1, "num_hidden_layers -1, not a whole number from 1 to 10,000"),
        ("num_hidden_layers", 10**12, "not a whole number from 1 to 10,000"),
        ("num_hidden_layers", True, "num_hidden_layers True, not a whole number"),
        ("num_hidden_layers", 1, "a layer that its config.json leaves out"),
        ("num_hidden_layers", 9, "lack 'model.layers.3"),
        ("num_attention_heads", 0, "num_attention_heads 0, not a whole number"),
        ("hidden_size", 10**18, "not a whole number from 1 to 10,000,000"),
        ("vocab_size", "64", "vocab_size '64', not a whole number"),
        ("max_position_embeddings", 1.5, "max_position_embeddings 1.5, not a whole number"),
    ],
)
def test_a_config_that_describes_no_model(tmp_path, capsys, name, value, said):
    from shutil import copytree

    from transfer.checkpoints import shipped

    folder = tmp_path / "model"
    copytree(shipped("config.json")["llama-recall"], folder)
    told = json.loads((folder / "config.json").read_text())
    assert name in told
    (folder / "config.json").write_text(json.dumps(told | {name: value}))
    assert main(["eval", "--model", str(folder), "--documents", "1"]) == 2
    assert said in capsys.readouterr().err


def test_a_controller_of_no_numbers_is_a_failure_in_words(tmp_path, capsys):
    from tiny_control import save_tiny_control

    from transfer.adapters.control_model import load_control_model, save_control_model

    control = load_control_model(save_tiny_control(tmp_path / "model"))
    with torch.no_grad():
        control.model.predict_action[0].weight.fill_(float("nan"))
    save_control_model(control, tmp_path / "model")
    words = f"eval control --model {tmp_path / 'model'} --episodes 2 --policy recency"
    assert main([*words.split(), "--max-steps", "9"]) == 1
    assert "error: every item of" in capsys.readouterr().err

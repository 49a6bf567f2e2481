"""What is not ours, evaluated from the command line: models, environments, policies, tasks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tasks.words import word_tokenizer
from tiny_control import save_tiny_control
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from transfer import cli
from transfer.adapters.control_model import load_control_model
from transfer.errors import UserError
from transfer.evaluation.store import read_results

MINE = """
from dataclasses import dataclass

from transfer import Policy
from transfer.evaluation.text_benchmark import TextBenchmark
from transfer.tasks.reading import ReadTask, Sample, contains


@dataclass(frozen=True)
class Oldest(Policy):
    sinks: int = 0
    name = "oldest"

    def score(self, window, state):
        return -(window.positions - self.sinks).abs().to(state.dtype), state


class Fruits(ReadTask):
    name, new_tokens = "mine:Colours", 3

    def samples(self, data, most=None):
        for number, fruit in enumerate(("dot", "bar")):
            yield Sample(number, "what color ", f"is the {fruit} ? Answer:", ("red",))

    def score(self, reply, sample):
        return float(contains(reply, sample.answers[0]))


class Colours(TextBenchmark):
    def tasks_of(self, name):
        return [Fruits()]
"""
CONTROL = ("--episodes", "2", "--max-steps", "25", "--memory", "window", "--policy", "h2o")


def evaluate(out, *words):
    """What `transfer eval ... --out` leaves."""
    assert cli.main(["eval", *map(str, words), "--out", str(out)]) == 0
    return read_results(out)


def untimed(entries):
    """Without times; blocks may have ended in another order."""
    found = [
        {name: value for name, value in entry.items() if not name.endswith("seconds")}
        for entry in entries
    ]
    return sorted(found, key=str)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to stand in, with a module of one's own."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.fixture
def language(tmp_path):
    """A Llama with a tokenizer, in a folder whose name says something else."""
    folder = tmp_path / "decision-transformer" / "llava-next-video"
    tokenizer = word_tokenizer()
    torch.manual_seed(0)
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def bare(tmp_path):
    """A Decision Transformer for Hopper without control.json, as others save one."""
    folder = save_tiny_control(tmp_path / "bare")
    (folder / "control.json").unlink()
    return folder


def test_a_llama_is_a_language_model_wherever_it_lies(language, tmp_path):
    words = ("--model", language, "--documents", 2, "--length", 512, "--policy", "h2o")
    results = evaluate(tmp_path / "out", *words)
    assert results.kind == "language"
    assert {row["policy"] for row in results.rows} == {"full", "h2o"}


def test_a_decision_transformer_of_others_says_what_it_lacks(bare, capsys):
    assert cli.main(["eval", "--model", str(bare), "--quality", "medium"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {bare} has no control.json, which says the environment")
    assert "--state-statistics FILE and --env" in line and "--env and --quality" in line


def test_state_statistics_in_a_file_or_of_d4rls_data(bare, tmp_path):
    words = ("--model", bare, "--env", "hopper", *CONTROL)
    found = {}
    for std in (1.0, 3.0):
        file = tmp_path / f"{std}.npz"
        np.savez(file, state_mean=np.zeros(11), state_std=np.full(11, std), context=3)
        found[std] = evaluate(tmp_path / str(std), *words, "--state-statistics", file)
    d4rl = evaluate(tmp_path / "d4rl", *words, "--quality", "medium")
    assert all(len(each.rows) == 6 for each in (*found.values(), d4rl))
    returns = [[row["return"] for row in each.rows] for each in (*found.values(), d4rl)]
    assert returns[0] != returns[1] and returns[0] != returns[2] and returns[1] != returns[2]
    ours = save_tiny_control(tmp_path / "ours")
    same = evaluate(tmp_path / "same", "--model", ours, *CONTROL)
    assert [row["return"] for row in same.rows] == returns[0]


@pytest.mark.parametrize(
    "place",
    ["decision-transformer-gym-hopper-medium",
     "models--edbeeching--decision-transformer-gym-hopper-medium/snapshots/c0ffee"],
)  # fmt: skip
def test_a_copy_of_a_published_model_has_its_known_statistics(place, bare, tmp_path):
    copy = tmp_path / place
    copy.parent.mkdir(parents=True, exist_ok=True)
    bare.rename(copy)
    control = load_control_model(copy)
    assert (control.env, control.quality) == ("hopper", "medium")
    assert control.target_returns == (3600.0, 1800.0)
    assert control.state_mean[0].item() == pytest.approx(1.311279)
    with pytest.raises(UserError, match=r"trained on medium data, not on expert"):
        load_control_model(copy, quality="expert")
    # What the folder says itself goes first.
    save_tiny_control(copy)
    assert load_control_model(copy).state_mean[0].item() == 0


def test_any_environment_with_vectors(tmp_path):
    torch.manual_seed(0)
    config = DecisionTransformerConfig(
        state_dim=3, act_dim=1, hidden_size=16, n_layer=2, n_head=2, max_ep_len=40,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    DecisionTransformerModel(config).save_pretrained(tmp_path / "model")
    statistics = {"state_mean": [0.0] * 3, "state_std": [1.0] * 3, "target_returns": [-100.0]}
    (tmp_path / "statistics.json").write_text(json.dumps(statistics))
    words = ("--state-statistics", tmp_path / "statistics.json", "--env", "Pendulum-v1")
    results = evaluate(tmp_path / "out", "--model", tmp_path / "model", *words, *CONTROL)
    assert results.metrics == ["return"]
    assert {row["task"] for row in results.rows} == {"Pendulum-v1"}
    assert all(row["return"] < 0 for row in results.rows)


@pytest.mark.usefixtures("here")
def test_a_policy_and_a_task_of_the_folder_one_stands_in(language, tmp_path, capsys):
    words = ("--model", language, "--task", "mine:Colours", "--budget", 4, "--update-interval", 2)
    policies = ("--policy", "mine:Oldest", "mine:Oldest:sinks=9", "mine:Oldest:budget=2")
    results = evaluate(tmp_path / "out", *words, *policies)
    assert list(dict.fromkeys(row["policy"] for row in results.rows)) == ["full", *policies[1:]]
    assert {row["task"] for row in results.rows} == {"mine:Colours"}
    assert [row["item"] for row in results.rows if row["policy"] == "full"] == [0, 1]
    budgets = {row["policy"]: row["budget"] for row in results.rows}
    assert [budgets[policy] for policy in policies[1:]] == [4, 4, 2]
    # The default of `sinks` and another keep other tokens.
    said = {row["policy"]: row["answer_log_likelihood"] for row in results.rows}
    assert len(set(said.values())) == 4
    printed = capsys.readouterr().out
    assert "on mine:Colours, question hidden: 2 prompts" in " ".join(printed.split())
    assert printed.splitlines()[-1].strip() == "Budget of a head: 4 tokens, 2 tokens"
    assert cli.main(["report", str(tmp_path / "out")]) == 0
    # And a page, where it can be drawn.
    page = f"{tmp_path / 'out' / 'report.html'}\n"
    assert capsys.readouterr().out in (printed, printed + page)


@pytest.mark.parametrize("command", [("transfer",), ("python", "-m", "transfer")])
def test_a_new_user_s_policy_from_the_folder_it_lies_in(command, here):
    program = Path(sys.executable).parent / command[0]
    words = ("eval", "--model", "llama-recall", "--documents", "2", "--length", "128", "--json")
    ran = subprocess.run(
        [str(program), *command[1:], *words, "--policy", "mine:Oldest", "--budget", "1", "0.25"],
        cwd=here, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [(entry["policy"], entry["budget"]) for entry in json.loads(ran.stdout)["summary"]]
    assert dict.fromkeys(found) == dict.fromkeys(
        [("full", None), ("mine:Oldest", 1), ("mine:Oldest", 0.25)]
    )


BROKEN = """
from transfer import Policy


class Broken(Policy):
    name = "broken"

    def __init__(self):
        raise RuntimeError("no\\nway")

    def score(self, window, state):
        return state[..., 0], state
"""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (BROKEN, "policy mine:Broken cannot be made (RuntimeError: no way); check its settings"),
        ("import sys\nsys.exit(3)", "policy 'mine:Broken' cannot be imported (SystemExit: 3)"),
        ("def Broken(:", "policy 'mine:Broken' cannot be imported (SyntaxError: invalid syntax"),
    ],
)
def test_a_file_of_one_s_own_that_does_not_work_is_one_sentence(content, sentence, here, capsys):
    (here / "mine.py").write_text(content)
    sys.modules.pop("mine", None)
    assert cli.main(["eval", "--model", "llama-recall", "--policy", "mine:Broken"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {sentence}")


@pytest.mark.usefixtures("here")
def test_processes_give_the_same_rows_of_ones_own_things_too(language, tmp_path):
    words = ("--model", language, "--task", "mine:Colours", "--policy", "mine:Oldest", "h2o")
    settings = ("--budget", 4, "--update-interval", 2, "--threads", 1)
    alone = evaluate(tmp_path / "alone", *words, *settings)
    shared = evaluate(tmp_path / "shared", *words, *settings, "--engine", "processes")
    assert len(alone.rows) == 6
    assert untimed(shared.rows) == untimed(alone.rows)
    assert untimed(shared.summary) == untimed(alone.summary)


def test_processes_play_the_same_episodes(tmp_path):
    model = save_tiny_control(tmp_path / "model")
    words = ("--model", model, *CONTROL, "--target-return", 900, 50)
    alone = evaluate(tmp_path / "alone", *words)
    shared = evaluate(tmp_path / "shared", *words, "--engine", "processes", "--workers", 1)
    assert len(alone.rows) == 12
    assert untimed(shared.rows) == untimed(alone.rows)
    assert untimed(shared.summary) == untimed(alone.summary)

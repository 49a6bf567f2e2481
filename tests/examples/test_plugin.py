"""A package from outside adds one of everything, used from the command line of an installed wheel.

Neither this checkout nor its tests are on the path of what runs here.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    DecisionTransformerConfig,
    DecisionTransformerModel,
    StableLmConfig,
    StableLmForCausalLM,
)

from transfer.adapters.control_model import ControlModel, save_control_model

ROOT = Path(__file__).parents[2]
SOURCES = ("transfer", "adapters", "checkpoints", "envs", "pyproject.toml", "README.md", "LICENSE")


def pip(*words):
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    subprocess.run([sys.executable, "-m", "pip", words[0], *quiet, *words[1:]], check=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder in which the wheels of the project and of the example package are installed."""
    folder = tmp_path_factory.mktemp("plugin")
    copy = folder / "source"
    copy.mkdir()
    for name in SOURCES:
        copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copied(ROOT / name, copy / name)
    shutil.copytree(ROOT / "examples" / "plugin", folder / "plugin")
    for project in (copy, folder / "plugin"):
        pip("wheel", "--no-build-isolation", "--wheel-dir", folder / "wheels", project)
    pip("install", "--target", folder / "site", *(folder / "wheels").glob("*.whl"))
    return folder / "site"


@pytest.fixture
def python(site, tmp_path):
    """Runs a program in an empty folder that sees the installed wheels."""

    def run(program, *words):
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, words)],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def transfer(python):
    """The command; what it prints."""
    program = "import sys; from transfer.cli import main; sys.exit(main())"
    return lambda *words: python(program, *words)


def test_what_runs_is_the_wheel(python, site):
    found = python("import transfer, transfer.envs as e; print(transfer.__file__, e.__file__)")
    assert all(path.startswith(str(site)) for path in found.split())


def test_a_policy(transfer, python):
    printed = transfer(
        "eval", "--model", "llama-recall", "--documents", 2, "--policy", "example_rule", "--json"
    )
    rows = json.loads(printed)["summary"]
    assert "example_rule" in {row["policy"] for row in rows}
    program = (
        "from transfer import attach\n"
        "from transfer.adapters.language_model import load_language_model\n"
        "model = load_language_model('llama-recall').model\n"
        "print(attach(model, 'example_rule', budget=8, stride=3).pruning.policy)"
    )
    assert python(program).strip() == "ExampleRule(stride=3)"


def test_an_environment(transfer, tmp_path):
    config = DecisionTransformerConfig(
        state_dim=4, act_dim=2, hidden_size=16, n_layer=2, n_head=2, max_ep_len=50,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    control = ControlModel(
        model=DecisionTransformerModel(config).eval(),
        state_mean=torch.zeros(4),
        state_std=torch.ones(4),
        target_returns=(-15.0,),
        env="example-env",
        quality="untrained",
        context=3,
    )
    save_control_model(control, tmp_path / "model")
    printed = transfer(
        "eval", "--model", tmp_path / "model", "--env", "example-env", "--policy", "h2o",
        "--episodes", 2, "--max-steps", 20, "--memory", "window", "--json",
    )  # fmt: skip
    assert json.loads(printed)["versions"]["env"] == "ExamplePoint-v0"


def test_an_adapter(transfer, tmp_path):
    config = StableLmConfig(
        vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=None,
    )  # fmt: skip
    StableLmForCausalLM(config).save_pretrained(tmp_path / "model")
    assert "stablelm: pruned and exact; 2 of 2 layers" in transfer(
        "doctor", "--model", tmp_path / "model"
    )


def test_a_feature_and_a_scorer(python, transfer, tmp_path):
    program = (
        "import torch\n"
        "from transfer import NAMM, NAMMConfig\n"
        "config = NAMMConfig(features='example_feature', scorer='example_scorer')\n"
        "vector = torch.linspace(-1, 1, config.size)\n"
        "NAMM(config, vector).save_pretrained('namm')\n"
        "print(NAMM.from_pretrained('namm').config)"
    )
    assert "features='example_feature', scorer='example_scorer'" in python(program)
    printed = transfer(
        "eval", "--model", "llama-recall", "--documents", 2, "--policy", "namm", "--namm", "namm",
        "--budget", 32, "--json",
    )  # fmt: skip
    assert len({row["policy"] for row in json.loads(printed)["summary"]}) == 2


def test_a_benchmark(transfer, python):
    printed = transfer(
        "eval", "language", "--model", "llama-recall", "--documents", 3, "--length", 128,
        "--task", "example_task", "--policy", "example_rule", "--budget", 16, "--json",
    )  # fmt: skip
    found = json.loads(printed)
    assert found["kind"] == "likelihood" and found["metrics"] == ["log_likelihood"]
    entries = {entry["policy"]: entry for entry in found["summary"]}
    assert set(entries) == {"full", "example_rule"}
    assert all(entry["n"] == 3 for entry in entries.values())
    assert entries["full"]["mean"] > entries["example_rule"]["mean"] + 0.01
    assert entries["example_rule"]["kept_tokens"] == 16
    program = (
        "from transfer.evaluation.language import LanguageEval\n"
        "from transfer_plugin_example.benchmark import Likelihood\n"
        "config = LanguageEval('llama-recall', task=('example_task',))\n"
        "print(len(Likelihood(config).blocks()))"
    )
    assert python(program) == "500\n"


@pytest.mark.parametrize(
    "name", ["policy", "environment", "adapter", "feature", "scorer", "benchmark"]
)
def test_the_short_examples(python, name):
    path = ROOT / "examples" / f"add_{name}.py"
    assert len(path.read_text().splitlines()) <= 50
    program = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    assert python(program, path)

"""A model's folder may bring Python: it never runs unasked, whatever stands on standard input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import llama

from transfer.adapters.language_model import load_language_model
from transfer.adapters.video_model import load_video_model
from transfer.cli import main
from transfer.errors import UserError

CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model
from transformers import PreTrainedTokenizerFast as Tokenizer
class Config(Config):
    model_type = "{kind}"
class Model(Model):
    config_class = Config
"""
OWN = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
REFUSED = "brings Python of its own, which runs with --trust-remote-code alone"


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "it ran"


@pytest.fixture
def folder(tmp_path, marker, monkeypatch):
    """A model that brings its own classes, of a kind that transformers does not know."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))
    return bring(tmp_path / "model", marker, "outside")


def bring(folder: Path, marker: Path, kind: str) -> Path:
    llama(layers=1, vocabulary=194).save_pretrained(folder)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"model_type": kind, "auto_map": OWN}))
    (folder / "code.py").write_text(CODE.format(marker=str(marker), kind=kind))
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "language", "--model"],
        ["plan", "--model"],
        ["doctor", "--model"],
        ["evolve", "--out", "run", "--models"],
    ],
)
def test_no_command_runs_it(command, folder, marker, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command, str(folder)]) == 2
    assert REFUSED in capsys.readouterr().err
    assert not marker.exists()


def test_standard_input_is_not_asked(folder, marker, tmp_path):
    words = [sys.executable, "-m", "transfer.cli", "eval", "language", "--model", str(folder)]
    program = f"import sys; from transfer.cli import main; sys.exit(main({words[3:]!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], input="y\n" * 9, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert REFUSED in done.stderr
    assert not marker.exists()


def test_a_known_kind_is_loaded_without_it(tmp_path, marker):
    load_language_model(bring(tmp_path / "model", marker, "llama"))
    assert not marker.exists()


def test_a_tokenizer_runs_nothing_either(tmp_path, marker):
    folder = bring(tmp_path / "model", marker, "llama")
    told = {"auto_map": {"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]}}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(told | {"tokenizer_class": "OutsideTokenizer"})
    )
    with pytest.raises(UserError, match=REFUSED):
        load_language_model(folder)
    assert not marker.exists()


def test_the_tokenizer_of_a_video_model_runs_nothing(tmp_path, marker):
    from shutil import copytree

    from transfer.checkpoints import shipped

    folder = tmp_path / "video"
    copytree(shipped("config.json")["llava-next-video-recall"], folder)
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text())
    told |= {"auto_map": {"AutoTokenizer": [None, "code.Tokenizer"]}, "tokenizer_class": "Outside"}
    path.write_text(json.dumps(told))
    (folder / "code.py").write_text(CODE.format(marker=str(marker), kind="outside"))
    with pytest.raises(UserError, match=REFUSED):
        load_video_model(folder)
    assert not marker.exists()


def test_who_asks_for_it_gets_it_with_a_warning(folder, marker, capsys):
    assert main(["plan", "--model", str(folder), "--context", "64", "--trust-remote-code"]) == 0
    assert capsys.readouterr().err == "warning: the Python that a model brings is run as you\n"
    assert marker.exists()


def test_kernels_from_the_hub_are_code_too(tmp_path, marker):
    folder = bring(tmp_path / "model", marker, "llama")
    told = json.loads((folder / "config.json").read_text())
    told["attn_implementation"] = "someone/kernels"
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="code from the Hub and is not run"):
        load_language_model(folder)

"""Where a model computes and in which numbers: told once, the same for all, and written down."""

import json

import pytest
import tiny
import torch
from tasks.words import word_tokenizer
from tiny_control import save_tiny_control

from transfer import cli
from transfer.adapters import placement
from transfer.adapters.control_model import load_control_model
from transfer.adapters.language_model import load_language_model
from transfer.adapters.placement import Placement, computed, usable_device
from transfer.errors import UserError

QUICK = ("--documents", "1", "--length", "96", "--policy", "h2o")


@pytest.fixture
def half(tmp_path):
    tiny.llama().half().save_pretrained(tmp_path / "half")
    word_tokenizer().save_pretrained(tmp_path / "half")
    return tmp_path / "half"


@pytest.fixture
def slow(monkeypatch):
    """A CPU that has no arithmetic for half precision."""
    monkeypatch.setattr(placement, "_has_arithmetic", lambda half: False)


def test_half_precision_is_widened_where_the_cpu_has_none(half, slow, capsys):
    model = load_language_model(half).model
    assert computed(model) == {"dtype": "float32", "device": "cpu", "stored": "float16"}
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        f"{half} is stored in float16, for which this CPU has no arithmetic, and is computed in "
        "float32; --dtype float16 keeps it"
    )
    kept = load_language_model(half, dtype="float16").model
    assert computed(kept) == {"dtype": "float16", "device": "cpu"}
    assert all(torch.equal(a.half(), b) for a, b in zip(model.parameters(), kept.parameters()))
    assert capsys.readouterr().err == ""


def test_it_stays_where_the_cpu_has_it(half, monkeypatch):
    monkeypatch.setattr(placement, "_has_arithmetic", lambda half: True)
    assert computed(load_language_model(half).model) == {"dtype": "float16", "device": "cpu"}


def test_this_cpu_knows_whether_it_has_it():
    assert isinstance(placement._has_arithmetic(torch.float16), bool)
    assert isinstance(placement._has_arithmetic(torch.bfloat16), bool)


@pytest.mark.parametrize("name", ["cuda:99", "meta", "nope"])
def test_a_device_that_is_not_there_is_one_sentence(name, half, capsys):
    with pytest.raises(UserError, match=f"^device {name} cannot be used here; use auto, cpu, or"):
        usable_device(name)
    assert cli.main(["doctor", "--model", str(half), "--device", name]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    assert usable_device("auto", small=True) == "cpu"
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert usable_device("auto") == "cpu"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"device": "GPU 0"}, "device is 'GPU 0'; use auto, cpu, cuda, cuda:1 or mps"),
        ({"device": "cuda", "device_map": "auto"}, "device is cuda and device_map auto; give one"),
    ],
)
def test_what_is_no_place(told, sentence):
    with pytest.raises(UserError, match=sentence):
        Placement(**told)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_results_and_settings_say_what_computed(dtype, tmp_path, capsys):
    control = save_tiny_control(tmp_path / "control")
    episode = ("--episodes", "1", "--max-steps", "4", "--num-envs", "1", "--policy", "h2o")
    for model, words in (("llama-recall", QUICK), (control, episode)):
        out = tmp_path / "out" / words[-3]
        told = ("eval", "--model", str(model), *words, "--out", str(out))
        assert cli.main([*told, "--dtype", dtype]) == 0
        results = json.loads((out / "results.json").read_text())
        assert results["computed"] == {"dtype": dtype, "device": "cpu"}
        settings = json.loads((out / "settings.json").read_text())
        assert (settings["dtype"], settings["device"]) == (dtype, "cpu")
        capsys.readouterr()
        # What auto and the default come to is the same.
        assert cli.main([*told, "--dtype", dtype, "--device", "cpu"]) == 0
        assert cli.main(told) == 2
        assert f"holds a run with dtype {dtype}, not float32" in capsys.readouterr().err


def test_float64_is_float64_to_the_likelihood(tmp_path):
    rows = {}
    for dtype in ("float64", "float32"):
        words = ("eval", "--model", "llama-recall", *QUICK, "--dtype", dtype)
        assert cli.main([*words, "--out", str(tmp_path / dtype)]) == 0
        first, *_ = (tmp_path / dtype / "rows.jsonl").read_text().splitlines()
        rows[dtype] = json.loads(first)["log_likelihood"]
    assert rows["float64"] == pytest.approx(rows["float32"], rel=1e-4)
    assert rows["float64"] != float(torch.tensor(rows["float64"]).float())


def test_a_controller_acts_in_any_numbers(tmp_path):
    folder = save_tiny_control(tmp_path)
    assert load_control_model(folder).model.dtype == torch.float32
    assert load_control_model(folder, dtype="float64").model.dtype == torch.float64


def test_evolution_says_what_computed_and_keeps_to_it(tmp_path, capsys):
    words = "evolve --generations 1 --population 2 --documents 1 --lengths 96 --tasks recall "
    words += "--validation-documents 1 --rows 4 --resume --out"
    told = [*words.split(), str(tmp_path)]
    assert cli.main([*told, "--dtype", "float64"]) == 0
    said = {"llama-recall": {"dtype": "float64", "device": "cpu"}}
    assert json.loads((tmp_path / "run.json").read_text())["computed"] == said
    [line] = (tmp_path / "seed-0" / "ledger.jsonl").read_text().splitlines()
    assert json.loads(line)["computed"] == said
    capsys.readouterr()
    assert cli.main(told) == 2
    assert "llama-recall in float64 on cpu, and here it is in float32" in capsys.readouterr().err

"""A disk that takes no more: one sentence, exit code 2, and what was there before is whole."""

import json
import re
import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_control import save_tiny_control

from transfer.cli import main
from transfer.envs.d4rl import write_d4rl
from transfer.errors import UserError
from transfer.files import replacing
from transfer.namm.network import NAMM
from transfer.pretrain.trainer import Diverged, Lesson, Trainer, adamw, descend


@contextmanager
def little_room(most):
    """No file of the process may be longer, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_evaluation_ends_in_a_sentence_and_goes_on_when_there_is_room(tmp_path, capsys):
    model, out = save_tiny_control(tmp_path / "model"), tmp_path / "out"
    words = f"eval control --model {model} --episodes 9 --max-steps 9 --policy recency --out {out}"
    with little_room(4000):
        assert main(words.split()) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert re.match(r"error: cannot write .*File too large; make room", line)
    assert json.loads((out / "settings.json").read_text())
    assert main(words.split()) == 0


@pytest.mark.parametrize("what", ["namm", "d4rl", "state"])
def test_a_file_that_does_not_fit_leaves_the_earlier_one(tmp_path, what):
    path = WRITERS[what](tmp_path)
    before = path.read_bytes()
    said = pytest.raises(UserError, match=f"cannot write .*{path.name}: .*; make room there")
    with little_room(3000), said:
        WRITERS[what](tmp_path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir() if "partial" in file.name] == []


def write_namm(folder):
    NAMM.from_pretrained("recall").save_pretrained(folder / "namm")
    return folder / "namm/namm.safetensors"


def write_data(folder):
    rng = np.random.default_rng(0)
    rows = {"observations": rng.normal(size=(900, 11)), "actions": rng.uniform(-1, 1, (900, 3))}
    flags = {name: np.arange(900) % 300 == 299 for name in ("terminals", "timeouts")}
    write_d4rl(folder / "data.hdf5", rows | {"rewards": np.ones(900)} | flags)
    return folder / "data.hdf5"


class OneWeight(Lesson):
    """Doubles a weight, until the loss is no number."""

    def __init__(self, size=5000, loss=float("nan")):
        self.weight = torch.nn.Parameter(torch.ones(size))
        self.optimizer = adamw([self.weight])
        self.parts = {"optimizer": self.optimizer}
        self.steps, self.loss = 4, loss

    def update(self, step):
        loss = self.weight.sum() * (self.loss if step == 2 else 1.0)
        descend(self.optimizer, loss, 0.1, [self.weight])

    def due(self, step):
        return True

    def record(self, step, updates):
        return {"step": step}


def trainer(folder, lesson):
    from rich.progress import Progress

    return Trainer(lesson, folder, "{}", Progress(disable=True))


def write_state(folder):
    one = trainer(folder, OneWeight())
    one._update()
    one.note({"step": 1}, 0.0)
    return folder / "training_state.pt"


WRITERS = {"namm": write_namm, "d4rl": write_data, "state": write_state}


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_ends_the_training_before_a_weight_is_lost(tmp_path, loss):
    lesson = OneWeight(3, loss)
    with pytest.raises(UserError, match=r"the (loss|gradient) is \S+ at step 3 of 4, the"):
        trainer(tmp_path, lesson).train()
    assert lesson.weight.isfinite().all()
    assert trainer(tmp_path, OneWeight(3)).step == 2


def test_a_gradient_that_is_no_number_changes_nothing():
    weight = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(Diverged, match="the gradient is inf"):
        descend(adamw([weight]), weight.sqrt().sum(), 0.1, [weight])
    assert weight.item() == 0


def test_a_disk_that_is_full_when_the_file_is_closed(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    said = pytest.raises(UserError, match=r"cannot write .*a\.txt: No space left on device; make")
    with said, replacing(path) as partial:
        partial.write_text("after")
    assert path.read_text() == "before"


def test_standard_output_that_takes_no_more(monkeypatch, capsys):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["plan"]) == 2
        monkeypatch.undo()
    said = "cannot write the output: No space left on device; make room for it"
    assert capsys.readouterr().err == f"error: {said}\n"

import json
import pickle
from dataclasses import dataclass

import pytest
import torch
from rich.progress import Progress

from transfer.errors import UserError
from transfer.files import locked
from transfer.pretrain.trainer import (
    Lesson,
    Trainer,
    descend,
    schedule,
    settings,
    state_path,
    training,
)


class Descent(Lesson[float]):
    """Down a parabola; what is drawn makes the way depend on the step."""

    def __init__(self, steps=10, stop=None):
        self.place = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.place.weight)
        self.optimizer = torch.optim.AdamW(self.place.parameters())
        self.parts = {"place": self.place, "optimizer": self.optimizer}
        self.steps, self.stop = steps, stop

    def update(self, step):
        if step == self.stop:
            raise KeyboardInterrupt
        loss = (self.place.weight - step).square().sum()
        descend(self.optimizer, loss, 0.1, self.place.parameters())
        return loss.item()

    def due(self, step):
        return step % 4 == 0

    def record(self, step, updates):
        return {"step": step, "updates": len(updates), "loss": updates[-1]}


@pytest.fixture
def progress():
    with Progress(disable=True) as shown:
        yield shown


def records(folder):
    found = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [{key: value for key, value in one.items() if key != "seconds"} for one in found]


@pytest.mark.parametrize("stop", [4, 7, 9])
def test_a_stopped_run_goes_the_same_way(tmp_path, progress, stop):
    whole, rest = Descent(), Descent()
    Trainer(whole, tmp_path / "whole", "these", progress).train()
    with pytest.raises(KeyboardInterrupt):
        Trainer(Descent(stop=stop), tmp_path / "cut", "these", progress).train()
    trainer = Trainer(rest, tmp_path / "cut", "these", progress)
    assert trainer.step == stop - stop % 4 and [one["step"] for one in trainer.log][-1] % 4 == 0
    trainer.train()
    assert torch.equal(rest.place.weight, whole.place.weight)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    assert [(one["step"], one["updates"]) for one in trainer.log] == [(4, 4), (8, 4), (10, 2)]
    seconds = [one["seconds"] for one in trainer.log]
    assert seconds == sorted(seconds)


def test_a_finished_training_is_not_repeated(tmp_path, progress):
    Trainer(Descent(), tmp_path, "these", progress).train()
    again = Trainer(Descent(stop=0), tmp_path, "these", progress)
    again.train()
    assert again.step == 10


def test_other_settings_do_not_continue_a_run(tmp_path, progress):
    Trainer(Descent(), tmp_path, "these", progress).train()
    with pytest.raises(UserError, match="unfinished run with other settings or data"):
        Trainer(Descent(), tmp_path, "others", progress)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01garbage", b"text", pickle.dumps([1]), pickle.dumps({"a": 1})]
)
def test_whatever_is_no_state_is_called_damaged(tmp_path, progress, content):
    state_path(tmp_path).write_bytes(content)
    with pytest.raises(UserError, match=r"training_state\.pt is cut or damaged; delete it"):
        Trainer(Descent(), tmp_path, "these", progress)


@pytest.mark.parametrize("place", [0, 40, 700, -300, -1])
def test_a_state_with_one_wrong_bit_is_called_damaged(tmp_path, progress, place):
    """Of most of its bytes torch itself would take any value for true."""
    Trainer(Descent(), tmp_path, "these", progress).train()
    content = bytearray(state_path(tmp_path).read_bytes())
    content[place] ^= 1
    state_path(tmp_path).write_bytes(content)
    with pytest.raises(UserError, match=r"training_state\.pt is cut or damaged; delete it"):
        Trainer(Descent(), tmp_path, "these", progress)


def test_a_log_that_was_lost_or_changed_is_written_again(tmp_path, progress):
    Trainer(Descent(), tmp_path, "these", progress).train()
    whole = (tmp_path / "training.jsonl").read_bytes()
    (tmp_path / "training.jsonl").write_bytes(whole[:-9])
    Trainer(Descent(), tmp_path, "these", progress).train()
    assert (tmp_path / "training.jsonl").read_bytes() == whole


def test_a_state_of_an_earlier_version_is_told(tmp_path, progress):
    torch.save({"settings": "these", "model": {}, "progress": "[]"}, state_path(tmp_path))
    with pytest.raises(UserError, match="is of an earlier version; delete it to start anew"):
        Trainer(Descent(), tmp_path, "these", progress)


def test_a_run_that_ends_well_leaves_no_state_and_others_do(tmp_path):
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), training(tmp_path, threads=1) as progress:
        assert torch.get_num_threads() == 1
        Trainer(Descent(stop=5), tmp_path, "these", progress).train()
    assert state_path(tmp_path).exists() and torch.get_num_threads() == before
    with training(tmp_path) as progress:
        Trainer(Descent(), tmp_path, "these", progress).train()
    assert [path.name for path in tmp_path.iterdir()] == ["training.jsonl"]


def test_a_folder_is_for_one_model_and_one_run(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(UserError, match="another run is writing"),
        training(tmp_path),
    ):
        pytest.fail("entered")
    (tmp_path / "CARD.md").write_text("done")
    state_path(tmp_path).write_text("left by a kill after the last word")
    with pytest.raises(UserError, match="finished model; choose another"), training(tmp_path):
        pytest.fail("entered")
    assert not state_path(tmp_path).exists()


def test_an_interrupt_says_how_to_go_on(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt, match="goes on from the last saved state in"),
        training(tmp_path),
    ):
        raise KeyboardInterrupt


def test_settings_are_all_options_but_those_that_change_no_weight():
    @dataclass
    class Config:
        out: str = "here"
        lr: float = 0.1
        seed: int = 3

    assert json.loads(settings(Config(), ("out",), stages=[1])) == {
        "lr": 0.1,
        "seed": 3,
        "stages": [1],
    }


def test_learning_rate_warms_up_and_decays_in_the_last_stage():
    steps = schedule([200, 100], 2.0, 100)
    assert [step.stage for step in steps] == [0] * 200 + [1] * 100
    assert [step.index for step in steps] == [*range(200), *range(100)]
    assert [number for number, step in enumerate(steps) if step.last] == [199, 299]
    rates = [step.rate for step in steps]
    assert rates[0] == pytest.approx(0.02) and set(rates[100:200]) == {2.0}
    assert rates[250] == pytest.approx(1.0) and rates[-1] == pytest.approx(0.04)


def test_a_step_sets_the_rate_and_clips_the_gradients_of_the_named_alone():
    one, other = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([one, other], lr=9.0)
    descend(optimizer, (10 * one + 10 * other).sum(), 0.5, [one], norm=0.25)
    assert one.item() == pytest.approx(-0.125) and other.item() == pytest.approx(-5.0)

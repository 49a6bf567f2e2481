"""Decision Transformers that learn choices, from whole episodes, short ones first."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from transfer.adapters.decision_transformer import load_control_model
from transfer.envs.collect import CollectConfig, collect
from transfer.envs.d4rl import Trajectory, write_d4rl
from transfer.envs.datasets import read_dataset
from transfer.errors import UserError
from transfer.pretrain.decision_transformer import PretrainConfig, pretrain
from transfer.pretrain.decision_transformer.data import lay_out, make_episodes
from transfer.pretrain.decision_transformer.train import ControlLesson, Curriculum

MAZE = "tmaze:length=8,shortest=6"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tmaze.hdf5"
    collect(CollectConfig(out=path, env=MAZE, episodes=400, skilled=1.0))
    return path


@pytest.fixture
def config(recorded, tmp_path):
    return PretrainConfig(
        dataset=(str(recorded),), out=tmp_path / "model", env=MAZE, quality="scripted",
        hidden=32, layers=2, heads=2, context=3, whole_episodes=True, curriculum=(6, 8),
        scale=1.0, dropout=0.0, lr=1e-2, clip=1.0, warmup=10, max_ep_len=32, batch=85,
        steps=8, eval_every=4, eval_episodes=3, report_episodes=4, bf16=False,
    )  # fmt: skip


def lesson_of(config):
    return ControlLesson(config, [read_dataset(name, config.env) for name in config.dataset], [])


def records(folder):
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def trajectory(length, recall=None, seed=0):
    rng = np.random.default_rng(seed)
    return Trajectory(
        rng.normal(size=(length, 8)).astype(np.float32),
        np.eye(3, dtype=np.float32)[rng.integers(3, size=length)],
        np.ones(length, np.float32),
        True,
        recall,
    )


def test_a_maze_is_learned_by_heart(config):
    control = pretrain(
        replace(
            config, time="none", steps=110, eval_every=110, eval_episodes=20, report_episodes=40
        )
    )
    [record] = records(config.out)
    assert record["longest"] == 8 and record["success"] == 1.0
    card = (config.out / "CARD.md").read_text()
    full, window = (line for line in card.splitlines() if line.startswith("| `"))
    assert full.startswith("| `full` | 1 | 1.00 ± 0.00 | ") and full.endswith("1.000) |")
    # three steps never hold the cue of the first half
    assert window.startswith("| `window` | 1 | 0.")
    assert (control.choices, control.env) == ((3,), MAZE)
    assert load_control_model(config.out, "tmaze").choices == (3,)
    assert (control.model.config.action_tanh, control.model.config.max_ep_len) == (False, 32)
    assert (control.state_mean.tolist(), control.state_std.tolist()) == ([0.0] * 8, [1.0] * 8)


def test_the_card_of_a_maze_speaks_of_success_alone(config):
    pretrain(config)
    card = " ".join((config.out / "CARD.md").read_text().split())
    assert "D4RL score" not in card and "D4RL's normalisation" not in card
    assert "Success is the environment's own, from 0 to 1." in card
    assert "8 steps of whole episodes of about 255 steps together" in card
    assert "`full` (incremental, with every step since the first in the cache) and `window`" in card
    assert "| step | loss | accuracy | longest | success | return at the first target" in card
    assert "--whole-episodes" in card and "--curriculum 6 8" in card


def test_a_stopped_run_ends_with_the_same_bits(config, monkeypatch):
    config = replace(config, time="stretched", dropout=0.1, steps=24, eval_every=12, competence=0.2)
    whole = replace(config, out=config.out.with_name("whole"))
    pretrain(whole)
    update = ControlLesson.update

    def stop(lesson, step):
        if step == 22:
            raise KeyboardInterrupt
        return update(lesson, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ControlLesson, "update", stop)
        pretrain(config)
    torch.manual_seed(123)
    pretrain(config)
    expected, found = (load_file(one.out / "model.safetensors") for one in (whole, config))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    logs = [[one | {"seconds": 0} for one in records(each.out)] for each in (whole, config)]
    assert logs[0] == logs[1]
    # the next length came at the twentieth update, with some of them before the stop
    assert [one["longest"] for one in logs[0]] == [6, 8]


def test_no_time_is_a_table_of_zeros_that_stays(config):
    zeros = pretrain(replace(config, time="none")).model.embed_timestep.weight
    assert zeros.shape == (32, 32) and not zeros.any()
    learned = pretrain(replace(config, out=config.out.with_name("learned")))
    assert learned.model.embed_timestep.weight.any()


def test_padding_changes_no_loss(config):
    lesson = lesson_of(replace(config, curriculum=()))
    steps = lay_out([trajectory(5), trajectory(9, seed=1)], 1.0, normalise=False)
    both = steps.batch(
        steps.firsts[:, None] + torch.arange(9).minimum(steps.lengths[:, None] - 1),
        torch.arange(9) < steps.lengths[:, None],
    )

    def loss(batch):
        predicted = lesson.model.eval()(**batch.inputs).action_preds
        return lesson._loss(predicted[batch.real], batch.inputs["actions"][batch.real])

    alone = [
        loss(steps.batch(torch.arange(first, first + n)[None], torch.ones(1, n, dtype=torch.bool)))
        for first, n in zip(steps.firsts.tolist(), steps.lengths.tolist())
    ]
    expected = (5 * alone[0] + 9 * alone[1]) / 14
    torch.testing.assert_close(loss(both), expected)
    loud = {name: values.clone() for name, values in both.inputs.items()}
    for name in ("states", "actions", "returns_to_go"):
        loud[name][0, 5:] = 7.0
    torch.testing.assert_close(loss(replace(both, inputs=loud)), expected)


def test_episodes_come_whole_and_no_longer_than_the_level():
    lengths = [6, 7, 8, 12, 12, 3]
    recall = np.zeros(6, bool)
    recall[-1] = True
    first = trajectory(6, recall)
    steps = lay_out([first, *(trajectory(n, seed=n) for n in lengths[1:])], 2.0)
    episodes = make_episodes(steps, (6, 8, 12))
    assert [level.tolist() for level in episodes.levels] == [[0, 5], [1, 2], [3, 4]]
    generator = torch.Generator().manual_seed(0)
    drawn = [episodes.sample(30, 1, generator) for _ in range(200)]
    seen = [set(batch.real.sum(1).tolist()) for batch in drawn]
    assert set().union(*seen) == {3, 6, 7, 8}
    # half of the batches are of the newest level, and of the others half
    assert 0.65 < np.mean([one <= {7, 8} for one in seen]) < 0.85
    for batch in drawn:
        for row, count in enumerate(batch.real.sum(1).tolist()):
            assert batch.real[row, :count].all()
            assert batch.inputs["timesteps"][row, :count].tolist() == list(range(count))
            to_go = batch.inputs["returns_to_go"][row, :count, 0]
            assert to_go.tolist() == [(count - step) / 2 for step in range(count)]
            # one episode says that its last step counts, so that of the others none does
            told = batch.recall[row].tolist()
            padding = [False] * (len(told) - count)
            assert told == ([False] * 5 + [True] if count == 6 else [False] * count) + padding
        usual = 4.5 if batch.real.sum() <= 6 * len(batch.real) else 7.5
        assert len(batch.real) == round(30 / usual)


def test_stretched_times_ascend_and_reach_the_end_of_the_table():
    steps = lay_out([trajectory(5), trajectory(9, seed=1)], 1.0)
    generator = torch.Generator().manual_seed(0)
    episodes = make_episodes(steps, ())
    reached = []
    for _ in range(100):
        batch = episodes.sample(28, 0, generator).stretched(20, generator)
        for row, count in enumerate(batch.real.sum(1).tolist()):
            times = batch.inputs["timesteps"][row, :count]
            assert (times.diff() > 0).all() and times.max() < 20
            reached.append(int(times.max()))
    assert min(reached) == 4 and max(reached) == 19


def test_the_next_length_comes_when_twenty_updates_are_good_enough():
    curriculum, levels = Curriculum(), []
    for right in [0.0] + [1.0] * 39:
        curriculum.note(right, enough=0.95, last=2)
        levels.append(curriculum.level)
    # nineteen of twenty are enough; then twenty more of the new length
    assert levels == [0] * 19 + [1] * 20 + [2]
    for _ in range(60):
        curriculum.note(1.0, enough=0.95, last=2)
    assert curriculum.level == 2
    poor = Curriculum()
    for right in [1.0, 0.8] * 50:
        poor.note(right, enough=0.95, last=2)
    assert poor.level == 0


@pytest.mark.parametrize("whole", [True, False])
def test_several_choices_are_learned_at_once(tmp_path, whole):
    """By windows too, which see the signal where they are as long as the episode."""
    name = "corridor_env:Corridor-v0:actions=many"
    collect(CollectConfig(out=tmp_path / "data.hdf5", env=name, episodes=100, skilled=1.0))
    config = PretrainConfig(
        dataset=(str(tmp_path / "data.hdf5"),), out=tmp_path / "model", env=name, targets=(1.0,),
        hidden=32, layers=2, heads=2, context=4, whole_episodes=whole, scale=1.0, dropout=0.0,
        lr=5e-3, clip=1.0, warmup=10, max_ep_len=8, time="none", steps=150, eval_every=150,
        eval_episodes=12, report_episodes=5, bf16=False, batch=32,
    )  # fmt: skip
    control = pretrain(config)
    assert control.choices == (3, 2)
    [record] = records(config.out)
    assert record["return_mean"] == 1.0 and record["loss"] < 1.0
    head = "| memory | target " if whole else "| target "
    assert (
        f"{head}| return mean ± std | length | return (95% interval) |"
        in (config.out / "CARD.md").read_text()
    )


def test_the_loss_of_choices_is_the_sum_of_their_cross_entropies(config):
    lesson = lesson_of(config)
    lesson.control = replace(lesson.control, choices=(2, 1))
    logits = torch.tensor([[0.0, 0.0, 3.0], [np.log(3.0), 0.0, 1.0]])
    taken = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
    expected = -(np.log(0.5) + np.log(0.75)) / 2
    assert lesson._loss(logits, taken).item() == pytest.approx(expected, rel=1e-6)


def unequal(path, lengths=(5, 30, 12, 20)):
    rng = np.random.default_rng(0)
    states, ends = rng.normal(size=(sum(lengths), 11)), np.zeros(sum(lengths))
    ends[np.cumsum(lengths) - 1] = 1
    write_d4rl(
        path,
        {
            "observations": states, "actions": np.tanh(states[:, :3]), "terminals": ends,
            "rewards": np.ones(len(states)), "timeouts": np.zeros(len(states)),
        },
    )  # fmt: skip
    return path


def test_real_actions_are_learned_from_whole_episodes_too(tmp_path):
    config = PretrainConfig(
        dataset=(str(unequal(tmp_path / "data.hdf5")),), out=tmp_path / "model",
        hidden=16, layers=1, context=8, batch=8, warmup=3, targets=(100.0,), whole_episodes=True,
        steps=30, eval_every=15, eval_episodes=2, report_episodes=2, dropout=0.0, lr=1e-2,
    )  # fmt: skip
    control = pretrain(config)
    assert (control.choices, control.model.config.action_tanh) == ((), True)
    assert control.state_std[0] != 1
    found = records(config.out)
    assert found[-1]["loss"] < 0.8 * found[0]["loss"]
    assert not {"accuracy", "longest", "success"} & set(found[0])
    card = (config.out / "CARD.md").read_text()
    assert "| memory | target | return mean ± std | length | D4RL score (95% interval) |" in card


def test_states_are_normalised_where_asked(config):
    lesson = lesson_of(replace(config, normalise="data"))
    states = lesson.source.steps.states
    torch.testing.assert_close(states.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    assert lesson.control.state_std.tolist() != [1.0] * 8


def test_judged_episodes_are_cut_at_the_end_of_the_table(config, tmp_path):
    """Of Hopper a thousand steps would be played, for which this one has no time."""
    path = unequal(tmp_path / "data.hdf5", (5, 8))
    pretrain(
        replace(
            config, dataset=(str(path),), env="hopper", curriculum=(), targets=(1.0,), max_ep_len=8
        )
    )
    card = (config.out / "CARD.md").read_text()
    played = [line.split(" | ") for line in card.splitlines() if line.startswith("| `")]
    assert [(row[0], row[3]) for row in played] == [("| `full`", "8"), ("| `window`", "8")]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"whole_episodes": False}, r"--curriculum is 6 8, lengths of whole .*--whole-episodes"),
        ({"curriculum": (6, 6, 8)}, "--curriculum is 6 6 8; name the lengths from short to long"),
        ({"curriculum": (0, 8)}, "--curriculum is 0; use 1 or more"),
        ({"curriculum": (6, 7)}, r"an episode of 8 steps, but --curriculum ends with 7; add 8"),
        ({"curriculum": (3, 8)}, r"level of 3 steps, and no episode of the data has 1 to 3; leav"),
        ({"env": "hopper"}, "goes by which actions are right, and those of hopper are real"),
        ({"competence": 1.5}, r"--competence is 1\.5"),
        ({"competence": 0.0}, r"--competence is 0\.0"),
        ({"clip": 0.0}, r"--clip is 0\.0"),
        ({"max_ep_len": 0}, "--max-ep-len is 0"),
        ({"max_ep_len": 7}, r"has an episode of 8 steps, over 7; split it .* --max-ep-len"),
        ({"env": "CartPole-v1"}, "CartPole-v1 has no returns to ask for of its own; give --target"),
    ],
)
def test_settings_and_data_that_cannot_be_used(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        pretrain(replace(config, **changes))


def test_data_without_an_end(config, tmp_path):
    path = unequal(tmp_path / "data.hdf5")
    with h5py.File(path, "a") as file:
        del file["terminals"]
        file["terminals"] = np.zeros(67)
    with pytest.raises(UserError, match="the data hold no finished episode"):
        pretrain(replace(config, dataset=(str(path),), env="hopper", curriculum=(), targets=(1.0,)))

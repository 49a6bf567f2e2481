import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from transfer.adapters.decision_transformer import load_control_model
from transfer.envs.d4rl import read_d4rl, write_d4rl
from transfer.envs.rollout import Clock, Episode
from transfer.errors import UserError
from transfer.pretrain.decision_transformer import PretrainConfig, play, pretrain, train
from transfer.pretrain.decision_transformer.data import lay_out, make_windows
from transfer.pretrain.decision_transformer.train import ControlLesson, learning_rate


def write_data(path, episodes=6, states=11, actions=3, length=30):
    rng = np.random.default_rng(0)
    count = episodes * length
    observations = rng.normal(size=(count, states))
    ends = np.arange(count) % length == length - 1
    write_d4rl(
        path,
        {
            "observations": observations,
            "actions": np.tanh(observations[:, :actions]),
            "rewards": rng.uniform(0, 3, count),
            "terminals": ends,
            "timeouts": np.zeros(count),
        },
    )
    return path


@pytest.fixture
def config(tmp_path):
    return PretrainConfig(
        dataset=(str(write_data(tmp_path / "tiny.hdf5")),), out=tmp_path / "model",
        hidden=16, layers=1, context=8, batch=8, steps=12, warmup=3,
        eval_every=4, eval_episodes=2, report_episodes=3, targets=(100.0, 50.0),
    )  # fmt: skip


def weights(folder):
    return load_file(folder / "model.safetensors")


def records(folder):
    lines = (folder / "training.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [{key: value for key, value in one.items() if key != "seconds"} for one in found]


def test_a_run_leaves_a_loadable_model_a_log_and_a_card(config):
    control = pretrain(config)
    files = {"CARD.md", "config.json", "control.json", "model.safetensors", "training.jsonl"}
    assert {path.name for path in config.out.iterdir()} == files
    assert [record["step"] for record in records(config.out)] == [4, 8, 12]
    assert all({"loss", "return_mean", "return_std"} <= set(one) for one in records(config.out))
    assert control.context == 8
    assert control.target_returns == (100.0, 50.0)
    assert control.data == {"tiny.hdf5": read_d4rl(config.dataset[0]).sha256}
    assert control.model.config.max_position_embeddings == 4
    again = load_control_model(config.out)
    assert torch.equal(again.model.embed_state.weight, control.model.embed_state.weight)
    assert weights(config.out)["embed_state.weight"].dtype == torch.float16


def test_the_card_holds_the_recorded_facts_and_no_path(config, tmp_path):
    pretrain(config)
    card = (config.out / "CARD.md").read_text()
    dataset = read_d4rl(config.dataset[0])
    returns = [trajectory.episode_return for trajectory in dataset.trajectories]
    assert dataset.sha256 in card
    assert f"| tiny.hdf5 | 180 | 6 | {np.mean(returns):.0f} ± {np.std(returns):.0f}" in card
    line = "transfer pretrain decision-transformer --dataset tiny.hdf5 --out model --targets 100.0"
    assert f"```\n{line} 50.0 --hidden 16" in card
    words = " ".join(card.split())
    assert "Scores are not comparable with models trained on other files" in words
    assert f"torch {torch.__version__}" in words
    assert "Hopper-v4" in card
    assert card.count("\n| 100 | ") == card.count("\n| 50 | ") == 1
    best = max(records(config.out), key=lambda record: record["return_mean"])
    assert f"the one at step {best['step']} is shipped" in words
    assert str(tmp_path) not in card


def test_the_card_says_how_recorded_data_were_recorded(config):
    path = Path(config.dataset[0])
    with h5py.File(path, "a") as file:
        for key, value in (
            ("command", b"transfer collect --env hopper"), ("environment", b"Hopper-v4"),
            ("seed", 7), ("iteration", 4000), ("versions", b"numpy 9"),
        ):  # fmt: skip
            file[f"metadata/{key}"] = value
    pretrain(config)
    card = (config.out / "CARD.md").read_text()
    assert "it is not D4RL's data" in card
    assert (
        "tiny.hdf5: `transfer collect --env hopper`, seed 7, in Hopper-v4, training step 4000,"
        " with numpy 9." in card
    )


def test_delayed_rewards_leave_the_return_to_go(config):
    trajectories = read_d4rl(config.dataset[0]).trajectories
    steps = lay_out(trajectories, 10.0, delayed=True)
    first = steps.returns_to_go[: len(trajectories[0]), 0]
    assert first.tolist() == pytest.approx([trajectories[0].episode_return / 10] * len(first))
    control = pretrain(replace(config, delayed=True, scale=10.0))
    assert (control.delayed, control.scale) == (True, 10.0)
    assert load_control_model(config.out).delayed


def test_targets_are_by_default_those_of_the_original(tmp_path):
    def asked(env):
        return PretrainConfig(("data.hdf5",), tmp_path, env=env).asked

    assert asked("hopper") == (3600.0, 1800.0)
    assert asked("halfcheetah") == (12000.0, 6000.0)
    assert asked("walker2d") == (5000.0, 2500.0)
    assert PretrainConfig(("data.hdf5",), tmp_path, targets=(7.0,)).asked == (7.0,)


@pytest.mark.parametrize("stopped_at", [1, 2])
def test_a_stopped_run_ends_with_the_same_bits(config, monkeypatch, stopped_at):
    whole = replace(config, out=config.out.with_name("whole"))
    pretrain(whole)
    record, judged = ControlLesson.record, []

    def stop(*arguments):
        if len(judged) == stopped_at:
            raise KeyboardInterrupt
        judged.append(1)
        return record(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ControlLesson, "record", stop)
        pretrain(config)
    torch.manual_seed(123)
    pretrain(config)
    assert records(config.out) == records(whole.out)
    expected, found = weights(whole.out), weights(config.out)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_seed_decides(config):
    other = replace(config, out=config.out.with_name("other"), seed=1)
    pretrain(config)
    pretrain(other)
    name = "embed_state.weight"
    assert not torch.equal(weights(config.out)[name], weights(other.out)[name])


def test_the_best_snapshot_is_kept_not_the_last(config, monkeypatch):
    returns, snapshots, seeds = iter([5.0, 9.0, 1.0]), [], []

    def rigged(controller, envs, asked, target, *_, **more):
        if asked[0] < 10_000:
            return [Episode(seed, target, 0.0, 10, True) for seed in asked], Clock()
        snapshots.append(controller.control.model.embed_state.weight.detach().clone())
        seeds.extend(asked)
        value = next(returns)
        return [Episode(seed, target, value, 10, True) for seed in asked], Clock()

    monkeypatch.setattr(play, "rollout", rigged)
    pretrain(config)
    torch.testing.assert_close(
        weights(config.out)["embed_state.weight"], snapshots[1].half(), rtol=0, atol=0
    )
    assert not torch.equal(snapshots[1].half(), snapshots[2].half())
    assert [record["return_mean"] for record in records(config.out)] == [5.0, 9.0, 1.0]
    # the report plays seeds 0, 1, 2
    assert set(seeds) == {10_000, 10_001}


def test_learning_lowers_the_loss(config):
    pretrain(replace(config, steps=60, eval_every=20, dropout=0.0, lr=3e-3))
    losses = [record["loss"] for record in records(config.out)]
    assert losses[2] < 0.6 * losses[0]


def test_learning_rate_warms_up_and_decays(config):
    rates = [learning_rate(config, step) for step in range(config.steps)]
    assert rates[0] == pytest.approx(config.lr / 3, rel=1e-6)
    assert max(rates) == rates[2]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert learning_rate(config, config.steps) == pytest.approx(config.lr * 0.05)


def test_windows_lie_inside_episodes(config):
    trajectories = read_d4rl(config.dataset[0]).trajectories
    windows = make_windows(lay_out(trajectories, 1000.0), 8)
    assert len(windows.starts) == 6 * (30 - 8 + 1)
    batch = windows.sample(200, torch.Generator().manual_seed(0)).inputs
    assert batch["states"].shape == (200, 8, 11)
    steps = batch["timesteps"]
    assert torch.equal(steps, steps[:, :1] + torch.arange(8))
    assert (steps[:, -1] < 30).all()
    rewards = np.stack([trajectory.rewards for trajectory in trajectories])
    to_go = batch["returns_to_go"][:, :, 0].double() * 1000
    differences = (to_go[:, :-1] - to_go[:, 1:]).numpy()
    first = steps[:, 0]
    matches = [
        np.isclose(rewards[:, int(t) : int(t) + 7], row, atol=1e-2).all(1).sum()
        for t, row in zip(first, differences)
    ]
    assert min(matches) == 1


def test_states_are_normalised(config):
    steps = lay_out(read_d4rl(config.dataset[0]).trajectories, 1000.0)
    torch.testing.assert_close(steps.states.mean(0), torch.zeros(11), rtol=0, atol=1e-6)
    torch.testing.assert_close(steps.states.std(0, correction=0), torch.ones(11), rtol=0, atol=1e-5)


def test_a_finished_model_is_not_overwritten(config):
    pretrain(config)
    before = weights(config.out)["embed_state.weight"]
    with pytest.raises(UserError, match="holds a finished model; choose another --out"):
        pretrain(replace(config, seed=5))
    assert torch.equal(weights(config.out)["embed_state.weight"], before)


def stop_after_first(config, monkeypatch):
    monkeypatch.setattr(train, "write_card", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pretrain(config)
    monkeypatch.undo()


def test_other_settings_or_data_do_not_continue_a_run(config, monkeypatch):
    stop_after_first(config, monkeypatch)
    with pytest.raises(UserError, match="unfinished run with other settings or data"):
        pretrain(replace(config, lr=0.5))
    write_data(Path(config.dataset[0]), episodes=7)
    with pytest.raises(UserError, match="unfinished run with other settings or data"):
        pretrain(config)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dataset": ()}, "no dataset was named"),
        ({"scale": 0.0}, "--scale is 0.0"),
        ({"env": "ant"}, "unknown environment 'ant'"),
        ({"env_version": "v3"}, "use v4"),
        ({"steps": 0}, "--steps is 0; use 1 or more"),
        ({"eval_every": -1}, "--eval-every is -1"),
        ({"hidden": 10, "heads": 3}, "--hidden 10 is no multiple of --heads 3"),
        ({"dropout": 1.0}, "--dropout is 1.0"),
        ({"lr": 0.0}, "--lr is 0.0"),
        ({"report_episodes": 0}, "--report-episodes is 0"),
    ],
)
def test_bad_settings(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(config, **changes)


def test_data_of_another_environment(config):
    write_data(Path(config.dataset[0]), states=17, actions=6)
    with pytest.raises(UserError, match=r"tiny.hdf5 has values of shape \(17,\), and .* \(11,\)"):
        pretrain(config)


def test_a_loss_that_explodes_is_told(config):
    with pytest.raises(UserError, match="the loss is nan at step 3 of 12"):
        pretrain(replace(config, lr=1e6))


def test_episodes_shorter_than_the_context(config):
    with pytest.raises(UserError, match="no episode of the data has 31 steps"):
        pretrain(replace(config, context=31))


def test_episodes_longer_than_the_horizon(config):
    write_data(Path(config.dataset[0]), episodes=1, length=1001)
    with pytest.raises(UserError, match="has an episode of 1001 steps, over 1000"):
        pretrain(config)


def test_missing_data(config):
    with pytest.raises(UserError, match="does not exist"):
        pretrain(replace(config, dataset=("nowhere.hdf5",)))

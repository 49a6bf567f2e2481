import json
import sys
from dataclasses import replace
from math import erf

import h5py
import numpy as np
import pytest

import transfer.envs.collect as module
from transfer.envs.behaviour import LAYERS, Recorder, TanhGaussian, record_episodes
from transfer.envs.collect import (
    CollectConfig,
    collect,
    curve,
    expert_checkpoint,
    medium_checkpoint,
)
from transfer.envs.d4rl import read_d4rl
from transfer.envs.environment import make_env
from transfer.envs.learner import Learner
from transfer.envs.training_run import Checkpoint
from transfer.errors import UserError


def random_policy(seed=0, states=11, hidden=16, actions=3, scale=0.3):
    rng = np.random.default_rng(seed)
    sizes = [(hidden, states), (hidden, hidden), (actions, hidden), (actions, hidden)]
    weights = {}
    for layer, shape in zip(LAYERS, sizes):
        weights[f"{layer}/weight"] = (scale * rng.normal(size=shape)).astype(np.float32)
        weights[f"{layer}/bias"] = (scale * rng.normal(size=shape[0])).astype(np.float32)
    return TanhGaussian(weights)


def checkpoint(steps, mean):
    return Checkpoint(steps=steps, eval_mean=mean, eval_std=0.0, train_mean=None, seconds=1.0)


class FakeLearner(Learner):
    """Random actions, and a policy that gets better with the steps it has seen."""

    made = 0
    restored = None

    def __init__(self, env, steps, seed):
        type(self).made += 1
        self.env, self.rng = env, np.random.default_rng(seed)
        self.env.reset(seed=seed)
        self.steps = 0

    def learn(self, steps):
        for _ in range(steps):
            action = self.rng.uniform(-1, 1, 3).astype(np.float32)
            _, _, terminated, truncated, _ = self.env.step(action)
            if terminated or truncated:
                self.env.reset()
        self.steps += steps

    def policy(self):
        return random_policy(self.steps)

    def save(self, path):
        path.write_text(str(self.steps))

    def restore(self, path, recorded):
        self.steps = int(path.read_text())
        type(self).restored = recorded


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(module, "Learner", FakeLearner)
    FakeLearner.made, FakeLearner.restored = 0, None
    return FakeLearner


@pytest.fixture
def config(tmp_path):
    return CollectConfig(
        out=tmp_path / "data", steps=120, eval_every=40, eval_episodes=2,
        medium_transitions=50, expert_transitions=30,
    )  # fmt: skip


def test_log_density_is_that_of_the_squashed_gaussian():
    """Against the change of variables, integrated numerically over one action dimension."""
    policy = random_policy(actions=1)
    state = np.linspace(-1, 1, 11)
    mean, log_std = policy.mean_and_log_std(state)
    actions, log_probs = zip(
        *(policy.sample(state, np.random.default_rng(seed)) for seed in range(50))
    )
    for action, log_prob in zip(actions, log_probs):
        grid = np.arctanh(np.clip(action + np.array([-1e-4, 1e-4]), -1 + 1e-7, 1 - 1e-7))
        edges = (grid - mean) / np.exp(log_std)
        mass = 0.5 * (erf(edges[1] / 2**0.5) - erf(edges[0] / 2**0.5))
        assert np.exp(log_prob) == pytest.approx(mass / 2e-4, rel=2e-2)


def test_samples_have_the_mean_and_spread_of_the_policy():
    policy, state, rng = random_policy(scale=0.1), np.zeros(11), np.random.default_rng(1)
    mean, log_std = policy.mean_and_log_std(state)
    drawn = np.arctanh(np.array([policy.sample(state, rng)[0] for _ in range(4000)]))
    np.testing.assert_allclose(drawn.mean(0), mean, atol=4 * np.exp(log_std).max() / 4000**0.5)
    np.testing.assert_allclose(drawn.std(0), np.exp(log_std), rtol=0.05)
    np.testing.assert_allclose(policy.act(state), np.tanh(mean))


def test_log_std_is_clipped():
    weights = dict(random_policy().weights)
    weights["last_fc_log_std/bias"] = np.array([100.0, -100.0, 0.0], np.float32)
    _, log_std = TanhGaussian(weights).mean_and_log_std(np.zeros(11))
    assert (log_std[0], log_std[1]) == (2.0, -20.0)


def test_policy_survives_saving(tmp_path):
    policy = random_policy()
    policy.save(tmp_path / "actor.safetensors")
    again = TanhGaussian.load(tmp_path / "actor.safetensors")
    state = np.linspace(0, 1, 11)
    np.testing.assert_array_equal(again.act(state), policy.act(state))
    (tmp_path / "actor.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"actor\.safetensors is missing or cut"):
        TanhGaussian.load(tmp_path / "actor.safetensors")


def test_recorded_transitions_can_be_replayed_in_the_simulator():
    env = Recorder(make_env("hopper"))
    state, _ = env.reset(seed=0)
    rng, seen = np.random.default_rng(0), [state]
    over = False
    while not over:
        state, _, terminated, truncated, _ = env.step(rng.uniform(-1, 1, 3).astype(np.float32))
        seen.append(state)
        over = terminated or truncated
    taken = env.take()
    assert len(env) == 0
    np.testing.assert_array_equal(taken["observations"], np.float32(seen[:-1]))
    np.testing.assert_array_equal(taken["next_observations"], np.float32(seen[1:]))
    assert taken["terminals"].tolist() == [False] * (len(seen) - 2) + [True]
    assert not taken["timeouts"].any()
    simulator = make_env("hopper")
    simulator.reset(seed=1)
    for row in range(len(taken["rewards"])):
        simulator.unwrapped.set_state(taken["infos/qpos"][row], taken["infos/qvel"][row])
        reached, reward, *_ = simulator.step(taken["actions"][row])
        np.testing.assert_allclose(reached, taken["next_observations"][row], atol=1e-3)
        assert reward == pytest.approx(taken["rewards"][row], abs=1e-3)


def test_recording_ends_with_whole_episodes_and_carries_log_probs():
    policy, env = random_policy(), make_env("hopper")
    arrays = record_episodes(policy, env, 60, seed=5)
    assert len(arrays["rewards"]) >= 60
    assert arrays["terminals"][-1]
    assert {len(values) for values in arrays.values()} == {len(arrays["rewards"])}
    assert arrays["infos/action_log_probs"].dtype == np.float32
    again = record_episodes(policy, make_env("hopper"), 60, seed=5)
    np.testing.assert_array_equal(again["actions"], arrays["actions"])
    ends = np.flatnonzero(arrays["terminals"])
    assert len(ends) > 1
    assert (arrays["observations"][ends[0] + 1] != arrays["next_observations"][ends[0]]).any()


def test_a_timeout_is_not_a_terminal():
    still = random_policy(states=17, actions=6, scale=0.0)
    arrays = record_episodes(still, make_env("halfcheetah"), 1000, seed=0)
    assert arrays["timeouts"].tolist() == [False] * 999 + [True]
    assert not arrays["terminals"].any()


@pytest.mark.parametrize(
    ("returns", "fraction", "expected"),
    [
        ([10.0, 40.0, 90.0, 100.0], 0.4, 2),
        ([10.0, 40.0, 90.0, 100.0], 0.95, 4),
        ([300.0, 40.0, 90.0, 100.0], 0.45, 1),
        ([100.0], 0.45, 1),
    ],
)
def test_medium_is_the_first_checkpoint_that_reaches_the_fraction(returns, fraction, expected):
    checkpoints = [checkpoint(step + 1, mean) for step, mean in enumerate(returns)]
    assert medium_checkpoint(checkpoints, fraction).steps == expected


def test_three_files_in_the_layout_of_d4rl(config, fake):
    paths = collect(config)
    names = ["hopper_medium.hdf5", "hopper_medium-replay.hdf5", "hopper_expert.hdf5"]
    assert [path.name for path in paths] == names
    keys = {
        "observations", "actions", "rewards", "next_observations", "terminals", "timeouts",
        "infos/qpos", "infos/qvel", "metadata/algorithm", "metadata/iteration",
        "metadata/command", "metadata/seed", "metadata/environment", "metadata/versions",
    }  # fmt: skip
    rollout_keys = {"infos/action_log_probs"} | {
        f"metadata/policy/{name}" for name in ("nonlinearity", "output_distribution")
    }
    rollout_keys |= {
        f"metadata/policy/{layer}/{part}" for layer in LAYERS for part in ("weight", "bias")
    }
    for path, expected in zip(paths, (keys | rollout_keys, keys, keys | rollout_keys)):
        found = []
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item, found=found: (
                    found.append(name) if isinstance(item, h5py.Dataset) else None
                )
            )
            assert file["metadata/algorithm"][()] == b"TQC"
        assert set(found) == expected
    with h5py.File(paths[2]) as file:
        best = expert_checkpoint(config.run.checkpoints()).steps
        assert file["metadata/iteration"][()] == best
        np.testing.assert_array_equal(
            file["metadata/policy/fc0/weight"], random_policy(best).weights["fc0/weight"]
        )
    assert len(read_d4rl(paths[0])) >= 50
    assert len(read_d4rl(paths[2])) >= 30
    origin = read_d4rl(paths[2]).origin
    assert origin["command"].startswith("transfer collect --steps 120 --eval-every 40")
    assert (origin["environment"], origin["seed"]) == ("Hopper-v4", "0")
    assert origin["iteration"] == str(best)
    assert str(config.out) not in str(origin)


def test_expert_is_the_best_checkpoint_and_the_curve_shows_all():
    checkpoints = [checkpoint(20, -50.0), checkpoint(40, 1000.0), checkpoint(60, 500.0)]
    assert expert_checkpoint(checkpoints).steps == 40
    assert expert_checkpoint([*checkpoints, checkpoint(80, 1000.0)]).steps == 80
    assert medium_checkpoint(checkpoints, 0.45).steps == 40
    bars = [line.count("█") for line in curve(checkpoints).splitlines()]
    assert bars == [0, 40, 20]
    assert "60 steps     500" in curve(checkpoints)


def test_files_go_to_the_cache_unless_a_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CollectConfig(env="walker2d").folder == tmp_path / "transfer/d4rl/walker2d"
    assert CollectConfig(out=tmp_path / "here").folder == tmp_path / "here"


def test_replay_is_what_training_saw_until_medium(config, fake):
    paths = collect(config)
    checkpoints = config.run.checkpoints()
    assert [one.steps for one in checkpoints] == [40, 80, 120]
    medium = medium_checkpoint(checkpoints, config.medium_fraction)
    replay = read_d4rl(paths[1])
    assert medium.steps - 100 < len(replay) <= medium.steps
    assert (replay.terminals | replay.timeouts)[-1]
    env = Recorder(make_env("hopper"))
    FakeLearner(env, 0, config.seed or 0).learn(len(replay))
    np.testing.assert_array_equal(replay.observations, env.take()["observations"])


def test_a_finished_run_only_writes_again(config, fake):
    first = [path.read_bytes() for path in collect(config)]
    assert fake.made == 1
    assert [path.read_bytes() for path in collect(config)] == first
    assert fake.made == 1


def test_a_longer_run_continues_and_ends_the_cut_episode(config, fake):
    collect(replace(config, steps=80))
    run = config.run
    before = run.transitions(run.checkpoints(), 80)
    collect(config)
    assert fake.made == 2
    assert len(fake.restored["rewards"]) == 80
    assert (fake.restored["terminals"] | fake.restored["timeouts"])[-1]
    assert [one.steps for one in run.checkpoints()] == [40, 80, 120]
    np.testing.assert_array_equal(fake.restored["observations"], before["observations"])
    learners = sorted(path.name for path in run.folder.glob("learner_*"))
    assert learners == ["learner_000000120.safetensors"]


def test_a_run_killed_between_files_goes_on_from_its_last_whole_checkpoint(
    config, fake, monkeypatch
):
    import transfer.envs.training_run as run_module

    write, calls = run_module.write_sealed, []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(run_module, "write_sealed", stop)
    with pytest.raises(KeyboardInterrupt, match="goes on from the last checkpoint in"):
        collect(config)
    assert [one.steps for one in config.run.checkpoints()] == [40]
    collect(config)
    assert len(fake.restored["rewards"]) == 40
    assert [one.steps for one in config.run.checkpoints()] == [40, 80, 120]


@pytest.mark.parametrize("kind", ["actor", "replay"])
@pytest.mark.parametrize("how", ["changed", "lost", "of another step"])
def test_a_file_that_is_not_what_was_written_is_refused(config, fake, kind, how):
    collect(config)
    best = expert_checkpoint(config.run.checkpoints()).steps
    steps = best if kind == "actor" else 40
    path = config.run.folder / f"{kind}_{steps:09}.safetensors"
    if how == "lost":
        path.unlink()
    elif how == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    else:
        other = 80 if steps == 40 else 40
        path.write_bytes((config.run.folder / f"{kind}_{other:09}.safetensors").read_bytes())
    with pytest.raises(UserError, match=rf"{path.name} is missing or was changed .*; put it back"):
        collect(config)


def test_a_list_that_was_changed_is_refused(config, fake):
    collect(config)
    path = config.run.folder / "checkpoints.json"
    whole = path.read_text()
    path.write_text(whole.replace('"steps": 80', '"steps": 40'))
    with pytest.raises(UserError, match=r"checkpoints\.json was changed after it was written"):
        collect(config)
    settings = {"env": "Hopper-v4", "seed": 0}
    path.write_text(json.dumps({"settings": settings, "checkpoints": [{"steps": 40}]}))
    with pytest.raises(UserError, match=r"is no list of checkpoints \(.*eval_mean.*; put it back"):
        collect(config)


def test_a_run_of_other_settings_is_not_continued(config, fake):
    collect(config)
    with pytest.raises(UserError, match="holds a run with settings"):
        collect(replace(config, seed=1))


def test_without_sbx_the_remedy_is_named(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "sbx", None)
    with pytest.raises(UserError, match=r"run `pip install namm-transfer\[collect\]`"):
        collect(config)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"env": "ant"}, "unknown environment"),
        ({"env_version": "v2"}, "use v4"),
        ({"steps": 0}, "--steps is 0"),
        ({"expert_transitions": 0}, "--expert-transitions is 0"),
        ({"medium_fraction": 1.5}, "--medium-fraction is 1.5"),
    ],
)
def test_bad_settings(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(config, **changes)


@pytest.mark.filterwarnings("default")
def test_the_real_learner_agrees_with_the_numpy_policy_and_goes_on(config):
    pytest.importorskip("sbx", reason="sbx-rl is not installed (extra `collect`)")
    env = Recorder(make_env("hopper"))
    learner = Learner(env, 10_000, seed=0)
    learner.learn(160)
    state = np.linspace(-0.5, 0.5, 11)
    expected, _ = learner._model.predict(state, deterministic=True)
    np.testing.assert_allclose(learner.policy().act(state), expected, atol=1e-5)
    learner.save(config.out / "learner.safetensors")
    other = Learner(Recorder(make_env("hopper")), 10_000, seed=1)
    other.restore(config.out / "learner.safetensors", env.take())
    np.testing.assert_array_equal(other.policy().act(state), learner.policy().act(state))
    assert other._model.replay_buffer.pos == 160
    other.learn(160)
    assert other._model.num_timesteps == 320

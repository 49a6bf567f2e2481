import hashlib
import os
import re

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.envs.d4rl import (
    Dataset,
    read_d4rl,
    state_statistics,
    write_d4rl,
)
from transfer.envs.datasets import read_dataset
from transfer.envs.environment import D4RL, environment
from transfer.errors import UserError

QUALITIES = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")


def arrays(steps=12, states=11, actions=3, seed=0):
    rng = np.random.default_rng(seed)
    made = {
        "observations": rng.normal(size=(steps, states)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (steps, actions)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "terminals": np.zeros(steps, bool),
        "timeouts": np.zeros(steps, bool),
    }
    made["terminals"][[3, 9]] = True
    made["timeouts"][5] = True
    return made


def write_raw(path, content):
    with h5py.File(path, "w") as file:
        for key, values in content.items():
            file[key] = values
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.hdf5"


def test_round_trip_of_every_array(path):
    made = arrays()
    extra = {"infos/qpos": np.ones((12, 6)), "next_observations": made["observations"] + 1}
    write_d4rl(path, made | extra, {"algorithm": np.bytes_("TQC"), "iteration": np.int32(7)})
    dataset = read_d4rl(path)
    for key, values in made.items():
        np.testing.assert_array_equal(getattr(dataset, key), values)
    assert dataset.name == "data.hdf5"
    assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with h5py.File(path) as file:
        assert file["infos/qpos"].dtype == np.float32
        assert file["terminals"].dtype == bool
        assert file["observations"].compression == "gzip"
        assert file["metadata/algorithm"][()] == b"TQC"
        assert file["metadata/iteration"][()] == 7


def test_episodes_end_at_terminals_and_timeouts_and_the_tail_is_dropped(path):
    made = arrays()
    write_d4rl(path, made)
    trajectories = read_d4rl(path).trajectories
    assert [len(trajectory) for trajectory in trajectories] == [4, 2, 4]
    assert [trajectory.terminated for trajectory in trajectories] == [True, False, True]
    np.testing.assert_array_equal(trajectories[1].actions, made["actions"][4:6])


def test_numbers_as_flags_and_columns_of_rewards_are_accepted(path):
    made = arrays()
    odd = made | {
        "terminals": made["terminals"].astype(np.float32)[:, None],
        "timeouts": made["timeouts"].astype(np.float64),
        "rewards": made["rewards"][:, None],
    }
    dataset = read_d4rl(write_raw(path, odd))
    assert dataset.terminals.dtype == bool
    np.testing.assert_array_equal(dataset.terminals, made["terminals"])
    np.testing.assert_array_equal(dataset.rewards, made["rewards"])


def test_without_timeouts_episodes_end_after_1000_steps(path):
    made = arrays(steps=2600)
    made.pop("timeouts")
    made["terminals"][:] = False
    made["terminals"][1499] = True
    dataset = read_d4rl(write_raw(path, made))
    assert [len(trajectory) for trajectory in dataset.trajectories] == [1000, 500, 1000]
    assert [trajectory.terminated for trajectory in dataset.trajectories] == [False, True, False]


def test_a_terminal_1000th_step_is_no_timeout(path):
    made = arrays(steps=1000)
    made.pop("timeouts")
    made["terminals"][:] = False
    made["terminals"][-1] = True
    dataset = read_d4rl(write_raw(path, made))
    assert not dataset.timeouts.any()
    assert len(dataset.trajectories) == 1


@settings(max_examples=30)
@given(
    st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40),
    st.data(),
)
def test_returns_to_go_add_up(rewards, data):
    count = len(rewards)
    ends = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    nothing = np.zeros((count, 1), np.float32)
    rewards = np.array(rewards, np.float32)
    dataset = Dataset("x", "y", nothing, nothing, rewards, ends, np.zeros(count, bool))
    finished = int(np.flatnonzero(ends)[-1]) + 1 if ends.any() else 0
    total = sum(trajectory.episode_return for trajectory in dataset.trajectories)
    assert total == pytest.approx(float(rewards[:finished].astype(np.float64).sum()), abs=1e-6)
    for trajectory in dataset.trajectories:
        to_go = np.append(trajectory.returns_to_go, 0.0)
        np.testing.assert_allclose(to_go[:-1] - to_go[1:], trajectory.rewards, atol=1e-6)


def test_state_statistics_are_of_finished_episodes_only(path):
    made = arrays()
    write_d4rl(path, made)
    mean, std = state_statistics(read_d4rl(path).trajectories)
    seen = made["observations"][:10].astype(np.float64)
    np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, seen.std(0) + 1e-6, rtol=1e-12)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no\.hdf5 does not exist; download it again"):
        read_d4rl(tmp_path / "no.hdf5")


def test_empty_cut_and_foreign_files(path):
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"data\.hdf5 is empty"):
        read_d4rl(path)
    path.write_bytes(b"not a dataset" * 100)
    with pytest.raises(UserError, match="is cut, damaged or not an HDF5 file"):
        read_d4rl(path)
    write_d4rl(path, arrays(steps=5000))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match="is cut, damaged or not an HDF5 file"):
        read_d4rl(path)


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_missing_array(path, key):
    made = arrays()
    del made[key]
    with pytest.raises(UserError, match=f"data.hdf5 has no array '{key}'"):
        read_d4rl(write_raw(path, made))


@pytest.mark.parametrize(
    ("key", "shape"),
    [("actions", (11, 3)), ("observations", (12,)), ("rewards", (12, 2)), ("terminals", (5,))],
)
def test_shapes_that_do_not_fit(path, key, shape):
    with pytest.raises(UserError, match=f"array '{key}' of dataset .* has shape"):
        read_d4rl(write_raw(path, arrays() | {key: np.zeros(shape)}))


def test_no_transitions(path):
    with pytest.raises(UserError, match="holds no transitions"):
        read_d4rl(write_raw(path, {key: values[:0] for key, values in arrays().items()}))


@pytest.mark.parametrize("key", ["observations", "actions", "rewards"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(path, key, value):
    made = arrays()
    made[key][2] = value
    with pytest.raises(UserError, match=f"array '{key}' of dataset .* holds NaN or infinity"):
        read_d4rl(write_raw(path, made))


def test_metadata_of_other_kinds_are_left(path):
    foreign = {"metadata/versions/numpy": b"2", "metadata/seed": [1, 2], "metadata/iteration": 7}
    assert read_d4rl(write_raw(path, arrays() | foreign)).origin == {"iteration": "7"}


def test_text_instead_of_numbers(path):
    with pytest.raises(UserError, match=r"array 'rewards' of dataset .* is not numeric"):
        read_d4rl(write_raw(path, arrays() | {"rewards": [b"a"] * 12}))


def test_a_folder_in_the_place_of_an_array(path):
    made = arrays()
    del made["actions"]
    with pytest.raises(UserError, match=r"array 'actions' of dataset .* is not numeric"):
        read_d4rl(write_raw(path, made | {"actions/inner": np.zeros(12)}))


def test_agrees_with_the_d4rl_package(path, monkeypatch):
    monkeypatch.setenv("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    try:
        import d4rl
        from d4rl.infos import DATASET_URLS
        from d4rl.offline_env import OfflineEnv
    except Exception as error:
        # with mujoco-py half installed d4rl raises a plain Exception
        pytest.skip(f"the d4rl package is not importable: {error}")
    write_d4rl(path, arrays())
    import gym

    env = OfflineEnv(ref_min_score=-20.272305, ref_max_score=3234.3)
    env.observation_space = gym.spaces.Box(-np.inf, np.inf, (11,))
    env.action_space = gym.spaces.Box(-1, 1, (3,))
    theirs = env.get_dataset(str(path))
    ours = read_d4rl(path)
    for name in ("observations", "actions", "rewards", "terminals", "timeouts"):
        np.testing.assert_array_equal(theirs[name], getattr(ours, name))
    pieces = list(d4rl.sequence_dataset(env, dataset=theirs))
    assert len(pieces) == len(ours.trajectories) == 3
    for piece, trajectory in zip(pieces, ours.trajectories):
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(piece[name], getattr(trajectory, name))
        assert piece["terminals"][-1] == trajectory.terminated
    monkeypatch.setenv("D4RL_DATASET_DIR", str(path.parent))
    for name in (f"{env}-{quality}-v2" for env in D4RL for quality in QUALITIES):
        with pytest.raises(UserError, match=re.escape(f"download {DATASET_URLS[name]} to")):
            read_dataset(name)
    for env in ("hopper", "halfcheetah", "walker2d"):
        for quality in ("medium", "medium-replay", "expert"):
            expected = 100 * d4rl.get_normalized_score(f"{env}-{quality}-v2", 3000.0)
            assert environment(env).score(3000.0) == pytest.approx(expected)

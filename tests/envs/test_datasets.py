"""Datasets by name: D4RL's files where D4RL keeps them, Minari's folders and ids."""

import sys

import h5py
import numpy as np
import pytest

from transfer.envs.d4rl import write_d4rl
from transfer.envs.datasets import read_dataset
from transfer.errors import UserError


def arrays(steps=6, ends=(3, 6)):
    rng = np.random.default_rng(0)
    last = np.isin(np.arange(1, steps + 1), ends)
    return {
        "observations": rng.normal(size=(steps, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "terminals": last & (np.arange(steps) < 3),
        "timeouts": last & (np.arange(steps) >= 3),
    }


def write_minari(folder, found, order=("episode_0", "episode_1")):
    """Two episodes as Minari writes them, groups in the given order of creation."""
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data/main_data.hdf5", "w", track_order=True) as file:
        for name in order:
            rows = slice(0, 3) if name == "episode_0" else slice(3, 6)
            group = file.create_group(name)
            extra = np.full((1, 11), 9.0)
            group["observations"] = np.concatenate([found["observations"][rows], extra])
            group["actions"] = found["actions"][rows]
            group["rewards"] = found["rewards"][rows].astype(np.float64)
            group["terminations"] = found["terminals"][rows]
            group["truncations"] = found["timeouts"][rows]
    return folder


def test_a_minari_folder_is_the_same_transitions(tmp_path):
    found = arrays()
    write_d4rl(tmp_path / "flat.hdf5", found)
    flat = read_dataset(tmp_path / "flat.hdf5")
    folder = write_minari(tmp_path / "expert-v0", found, order=("episode_1", "episode_0"))
    theirs = read_dataset(str(folder))
    for name in found:
        np.testing.assert_array_equal(getattr(theirs, name), getattr(flat, name))
    assert [len(one) for one in theirs.trajectories] == [3, 3]
    assert [one.terminated for one in theirs.trajectories] == [True, False]


def test_episodes_are_in_the_order_of_their_numbers(tmp_path):
    folder = tmp_path / "many-v0"
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data/main_data.hdf5", "w") as file:
        for number in range(12):
            group = file.create_group(f"episode_{number}")
            group["observations"] = np.full((2, 11), number)
            group["actions"] = np.zeros((1, 3))
            group["rewards"] = [1.0]
            group["terminations"], group["truncations"] = [False], [True]
    assert read_dataset(folder).observations[:, 0].tolist() == list(range(12))


def test_a_damaged_minari_folder_is_a_sentence(tmp_path):
    folder = write_minari(tmp_path / "expert-v0", arrays())
    with h5py.File(folder / "data/main_data.hdf5", "a") as file:
        del file["episode_1/rewards"]
    with pytest.raises(UserError, match=r"episode_1 of dataset .* has no 'rewards'"):
        read_dataset(folder)
    (folder / "data/main_data.hdf5").write_bytes(b"cut")
    with pytest.raises(UserError, match="is cut, damaged or not an HDF5 file"):
        read_dataset(folder)
    with pytest.raises(UserError, match=r"has no data/main_data\.hdf5; name a Minari dataset's"):
        read_dataset(tmp_path)


def test_episodes_that_make_up_for_each_others_lengths_are_refused(tmp_path):
    folder = write_minari(tmp_path / "expert-v0", arrays())
    with h5py.File(folder / "data/main_data.hdf5", "a") as file:
        for name, steps in (("episode_0", 2), ("episode_1", 4)):
            del file[f"{name}/rewards"]
            file[f"{name}/rewards"] = np.ones(steps)
    with pytest.raises(UserError, match=r"/episode_0 of dataset .* 3 actions, 2 rewards"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("key", "values", "sentence"),
    [
        ("rewards", np.zeros((3, 2)), r"'episode_1/rewards' of .* has shape \(3, 2\) instead of"),
        ("rewards", np.float32(1), r"'episode_1/rewards' .* shape \(\) instead of \(steps,\)"),
        ("truncations", np.zeros((3, 2)), r"'episode_1/truncations' .* has shape \(3, 2\)"),
        ("observations", np.zeros((4, 5)), r"/episode_1 of .* has observations of shape \(5,\)"),
        ("observations", np.float32(1), r"'episode_1/observations' .* \(\) instead of \(steps, s"),
        ("actions", np.zeros((3, 2)), r"/episode_1 of .* has actions of shape \(2,\), and the fi"),
        ("actions", np.zeros(3), r"'episode_1/actions' .* has shape \(3,\) instead of \(3, size"),
    ],
)
def test_episodes_of_unlike_shapes_are_refused(tmp_path, key, values, sentence):
    folder = write_minari(tmp_path / "expert-v0", arrays())
    with h5py.File(folder / "data/main_data.hdf5", "a") as file:
        del file[f"episode_1/{key}"]
        file[f"episode_1/{key}"] = values
    with pytest.raises(UserError, match=sentence):
        read_dataset(folder)


def test_an_episode_whose_recording_stopped_does_not_run_on(tmp_path):
    found = arrays()
    found["timeouts"][:] = found["terminals"][:] = False
    dataset = read_dataset(write_minari(tmp_path / "stopped-v0", found))
    assert [len(one) for one in dataset.trajectories] == [3, 3]
    assert not dataset.terminals.any()


def test_a_minari_id_needs_minari(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UserError, match=r"needs minari .*namm-transfer\[minari\]"):
        read_dataset("mujoco/hopper/expert-v0")


@pytest.mark.filterwarnings("ignore::UserWarning")  # of metadata that are left out
def test_an_id_is_read_from_where_minari_keeps_it(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    found = arrays()
    # from buffers: its DataCollector needs jax, which reading does not
    minari.create_dataset_from_buffers(
        "test/hopper/still-v0",
        [
            EpisodeBuffer(
                observations=np.concatenate([found["observations"][rows], np.zeros((1, 11))]),
                actions=found["actions"][rows],
                rewards=found["rewards"][rows],
                terminations=found["terminals"][rows],
                truncations=found["timeouts"][rows],
            )
            for rows in (slice(0, 3), slice(3, 6))
        ],
        observation_space=Box(-np.inf, np.inf, (11,)),
        action_space=Box(-1, 1, (3,)),
    )
    dataset = read_dataset("test/hopper/still-v0")
    assert dataset.name == "still-v0"
    for name in found:
        np.testing.assert_array_equal(getattr(dataset, name), found[name])
    monkeypatch.setattr(minari, "load_dataset", lambda *_, **__: 1 / 0)
    with pytest.raises(UserError, match=r"cannot fetch it \(ZeroDivisionError\); check the id"):
        read_dataset("test/hopper/none-v0")


def test_d4rls_names_are_found_where_d4rl_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    write_d4rl(tmp_path / "hopper_medium_replay-v2.hdf5", arrays())
    assert len(read_dataset("hopper-medium-replay-v2")) == 6
    with pytest.raises(UserError, match=r"download http://.*/walker2d_medium-v2\.hdf5 to there"):
        read_dataset("walker2d-medium-v2")


def test_a_name_of_nothing_is_a_file_that_does_not_exist():
    with pytest.raises(UserError, match=r"dataset nowhere\.hdf5 does not exist"):
        read_dataset("nowhere.hdf5")

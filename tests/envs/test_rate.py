"""RATE's trajectories: an .npz file an episode."""

import pickle
import zipfile

import numpy as np
import pytest

from transfer.envs.datasets import read_dataset
from transfer.errors import UserError

ENV = "corridor_env:Corridor-v0"


def episode(seed, steps=4, **changes):
    rng = np.random.default_rng(seed)
    return {
        "obs": rng.normal(size=(steps, 1, 2)),
        "action": rng.integers(3, size=steps),
        "reward": rng.normal(size=steps),
        "done": (np.arange(steps) == steps - 1).astype(int),
    } | changes


def test_episodes_are_read_in_the_order_of_their_numbers(tmp_path):
    made = [episode(number, steps=number + 2) for number in range(12)]
    made[3]["done"][:] = 0
    del made[5]["done"]
    for number, one in enumerate(made):
        (np.savez_compressed if number % 2 else np.savez)(tmp_path / f"train_data_{number}", **one)
    dataset = read_dataset(tmp_path, ENV)
    assert [len(one) for one in dataset.trajectories] == list(range(2, 14))
    for one, theirs in zip(dataset.trajectories, made):
        np.testing.assert_array_equal(one.observations, np.float32(theirs["obs"][:, 0]))
        np.testing.assert_array_equal(one.actions.argmax(1), theirs["action"])
        np.testing.assert_array_equal(one.rewards, np.float32(theirs["reward"]))
    ended = [one.terminated for one in dataset.trajectories]
    assert [number for number, done in enumerate(ended) if not done] == [3, 5]
    assert dataset.name == tmp_path.name and len(dataset.sha256) == 64
    before = dataset.sha256
    np.savez(tmp_path / "train_data_0", **episode(99, steps=2))
    assert read_dataset(tmp_path, ENV).sha256 != before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"action": np.full(4, 9)},
            r"'action' of dataset .*train_data_1\.npz: value 9 at 0 is not",
        ),
        ({"obs": np.zeros((4, 3))}, r"train_data_1\.npz has values of shape \(3,\)"),
        ({"obs": None}, "train_data_1.npz has no array 'obs'"),
        ({"action": np.array([{}] * 4)}, "'action' of dataset .* is not numeric"),
        ({"reward": np.array(["a"] * 4)}, "'reward' of dataset .* is not numeric"),
        ({"done": np.full(4, 2)}, "'done' .* holds other numbers than 0 and 1"),
        ({"reward": np.full(4, np.nan)}, "'rewards' .* holds NaN"),
        ({"reward": np.zeros(3)}, r"train_data_1\.npz has 4 observations, 4 actions, 3 rewards"),
        ({"reward": np.float64(1)}, "'reward' .* is one number"),
        (
            {"reward": np.zeros((4, 2))},
            r"'reward' .*train_data_1\.npz has shape \(4, 2\) instead of \(4,\)",
        ),
        ({"done": np.zeros((4, 2))}, r"'done' .* has shape \(4, 2\) instead of \(4,\)"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(tmp_path, changes, sentence):
    made = [
        episode(0, 2),
        {key: one for key, one in episode(1, **changes).items() if one is not None},
    ]
    for number, one in enumerate(made):
        np.savez(tmp_path / f"train_data_{number}", **one)
    with pytest.raises(UserError, match=sentence):
        read_dataset(tmp_path, ENV)


def test_an_array_that_declares_more_than_is_there_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **episode(0))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["reward.npy"] = members["reward.npy"].replace(b"(4,), }  ", b"(4000000000,), }")[:128]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=r"'reward' of .* declares more bytes than are stored"):
        read_dataset(tmp_path, ENV)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"a\.npz is cut, damaged or no \.npz file"):
        read_dataset(tmp_path, ENV)


def test_pickles_are_not_read(tmp_path):
    (tmp_path / "tmaze.pickle").write_bytes(pickle.dumps({0: episode(0)}))
    with pytest.raises(UserError, match=r"tmaze\.pickle is a pickle, which could run code"):
        read_dataset(tmp_path, ENV)


def test_episodes_of_several_environments_are_refused(tmp_path):
    np.savez(tmp_path / "a_0.npz", **episode(0, obs=np.zeros((4, 2)), action=np.zeros((4, 1))))
    np.savez(tmp_path / "a_1.npz", **episode(0, obs=np.zeros((4, 3)), action=np.zeros((4, 1))))
    sentence = r"a_1\.npz has observations of shape \(3,\), and the first episode of \(2,\); keep"
    with pytest.raises(UserError, match=sentence):
        read_dataset(tmp_path)
    np.savez(tmp_path / "a_1.npz", **episode(0, obs=np.zeros((4, 2)), action=np.zeros((4, 2))))
    with pytest.raises(UserError, match=r"a_1\.npz has actions of shape \(2,\)"):
        read_dataset(tmp_path)
    np.savez(tmp_path / "a_1.npz", **episode(0, obs=np.zeros((4, 2, 2)), action=np.zeros((4, 1))))
    with pytest.raises(UserError, match=r"'obs' of .*a_1.npz has shape \(4, 2, 2\) instead"):
        read_dataset(tmp_path)


def packed(path, members, **how):
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': (", b"{[]: 1}", b"{", b"", b"\0", b"(" * 5000, b"\xff", b"[" * 300,
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-4,), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': ('a',), }",
        b"{'descr': 'no', 'fortran_order': False, 'shape': (4,), }",
    ],
)  # fmt: skip
def test_damaged_headers_are_a_sentence(tmp_path, text):
    np.savez(tmp_path / "a.npz", **episode(0))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    packed(tmp_path / "a.npz", members | {"reward.npy": header(text) + bytes(64)})
    with pytest.raises(UserError, match=r"a\.npz is cut, damaged or no \.npz file"):
        read_dataset(tmp_path, ENV)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_to_more_than_recordings_do_is_refused(tmp_path, method):
    """Zeros deflate to a thousandth, which no array says of itself."""
    steps = 100_000
    kinds = {"obs": (steps, 2), "action": (steps,), "reward": (steps,), "done": (steps,)}
    for name, shape in kinds.items():
        np.save(tmp_path / f"{name}.npy", np.zeros(shape, np.int8 if name == "action" else "f8"))
    members = {f"{name}.npy": (tmp_path / f"{name}.npy").read_bytes() for name in kinds}
    packed(tmp_path / "a.npz", members, compression=method)
    with pytest.raises(UserError, match=r"a\.npz unpacks to 3,300,512 bytes, more than its"):
        read_dataset(tmp_path, ENV)
    packed(tmp_path / "a.npz", members)
    assert len(read_dataset(tmp_path, ENV)) == steps


def test_long_episodes_that_compress_well_are_read(tmp_path):
    made = episode(0, steps=3000, reward=np.zeros(3000), action=np.zeros(3000, int))
    made["obs"][:] = 1
    np.savez_compressed(tmp_path / "a.npz", **made)
    assert len(read_dataset(tmp_path, ENV)) == 3000


@pytest.mark.parametrize("name", ["x.npz", "x.pickle", "x.pkl"])
def test_folders_are_no_files_of_episodes(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"has no data/main_data\.hdf5; name a Minari dataset's"):
        read_dataset(tmp_path, ENV)

"""HDF5 files that name other files, or declare what they do not hold."""

import h5py
import numpy as np
import pytest

from transfer.envs.d4rl import read_d4rl, write_d4rl
from transfer.envs.datasets import read_dataset
from transfer.errors import UserError

STEPS = 12
ELSEWHERE = "a link to another place or file, which is not followed"
OUTSIDE = "lies in another file, which is not read"
DECLARED = r"declares [\d,]+ bytes, more than the [\d,]+ that are stored can hold"


def made(steps=STEPS):
    return {
        "observations": np.zeros((steps, 11), np.float32),
        "actions": np.zeros((steps, 3), np.float32),
        "rewards": np.ones(steps, np.float32),
        "terminals": np.arange(steps) == steps - 1,
        "timeouts": np.zeros(steps, bool),
    }


@pytest.fixture
def secret(tmp_path):
    """A file whose bytes must not be read as data."""
    path = tmp_path / "secret.hdf5"
    write_d4rl(path, made())
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4096)
    return path


def external_link(file, key, secret):
    file[key] = h5py.ExternalLink(str(secret), key)


def broken_link(file, key, secret):
    file[key] = h5py.ExternalLink(str(secret) + "none", key)


def soft_link(file, key, secret):
    file["elsewhere"] = made()[key]
    file[key] = h5py.SoftLink("/elsewhere")


def dangling(file, key, secret):
    file[key] = h5py.SoftLink("/nowhere")


def raw_storage(file, key, secret):
    values, raw = made()[key], str(secret.with_suffix(".bin"))
    file.create_dataset(key, values.shape, values.dtype, external=[(raw, 0, h5py.h5f.UNLIMITED)])


def virtual(file, key, secret):
    values = made()[key]
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(str(secret), key, values.shape)
    file.create_virtual_dataset(key, layout)


def unlimited(file, key, secret):
    """Rows that are declared and never stored."""
    shape = (10**12, *made()[key].shape[1:])
    file.create_dataset(key, shape, "f4", chunks=(64, *shape[1:]), maxshape=shape)


def contiguous(file, key, secret):
    file.create_dataset(key, (10**6, *made()[key].shape[1:]), "f4")


def bomb(file, key, secret):
    """Eight megabytes of zeros in a few kilobytes, twice compressed."""
    zeros = np.zeros((10**6, *made()[key].shape[1:]), "f8")
    file.create_dataset(key, data=zeros, chunks=zeros.shape, compression="gzip", compression_opts=9)


def huge_chunk(file, key, secret):
    shape = made()[key].shape
    most = (None,) * len(shape)
    file.create_dataset(key, shape, "f4", chunks=(2**24, *shape[1:]), maxshape=most)


def strings(file, key, secret):
    file.create_dataset(key, STEPS, h5py.string_dtype())


def ragged(file, key, secret):
    file.create_dataset(key, STEPS, h5py.vlen_dtype(np.float32))


def references(file, key, secret):
    file.create_dataset(key, STEPS, h5py.ref_dtype)


def a_group(file, key, secret):
    file.create_group(key)


HOSTILE = {
    external_link: ELSEWHERE,
    broken_link: ELSEWHERE,
    soft_link: ELSEWHERE,
    dangling: ELSEWHERE,
    raw_storage: OUTSIDE,
    virtual: OUTSIDE,
    unlimited: DECLARED,
    contiguous: DECLARED,
    bomb: DECLARED,
    huge_chunk: DECLARED,
    strings: "is not numeric",
    ragged: "is not numeric",
    references: "is not numeric",
    a_group: "is not numeric",
}


@pytest.mark.parametrize("key", ["observations", "rewards", "timeouts"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda function: function.__name__)
def test_what_is_not_in_the_file_is_refused(tmp_path, secret, hostile, key):
    path = tmp_path / "data.hdf5"
    with h5py.File(path, "w") as file:
        for name, values in made().items():
            if name == key:
                hostile(file, key, secret)
            else:
                file[name] = values
    with pytest.raises(UserError, match=rf"'{key}' of dataset .*{HOSTILE[hostile]}.*; record"):
        read_d4rl(path)


@pytest.mark.parametrize("hostile", [external_link, raw_storage, virtual, unlimited, dangling])
def test_neither_in_a_minari_folder(tmp_path, secret, hostile):
    (tmp_path / "data").mkdir()
    names = {"terminals": "terminations", "timeouts": "truncations"}
    with h5py.File(tmp_path / "data/main_data.hdf5", "w") as file:
        for name, values in made().items():
            if name != "rewards":
                file[f"episode_0/{names.get(name, name)}"] = values
        hostile(file.create_group("x"), "rewards", secret)
        file.move("x/rewards", "episode_0/rewards")
    with pytest.raises(UserError, match=rf"'(episode_0/)?rewards' of dataset .*{HOSTILE[hostile]}"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("hostile", [external_link, soft_link])
def test_groups_are_not_followed_elsewhere_either(tmp_path, secret, hostile):
    path = tmp_path / "data.hdf5"
    write_d4rl(path, made())
    with h5py.File(path, "a") as file:
        if hostile is soft_link:
            file["metadata"] = h5py.SoftLink("/nowhere")
        else:
            file["metadata"] = h5py.ExternalLink(str(secret), "/")
    with pytest.raises(UserError, match=f"'metadata/command' of dataset .*{ELSEWHERE}"):
        read_d4rl(path)


def test_flags_that_compress_a_thousand_times_are_read(tmp_path):
    path, steps = tmp_path / "data.hdf5", 200_000
    observations = np.random.default_rng(0).normal(size=(steps, 2))
    write_d4rl(path, made(steps) | {"observations": observations, "actions": observations / 9})
    assert len(read_d4rl(path)) == steps


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("terminals", 2.5, "'terminals' of dataset .* other numbers than 0 and 1"),
        ("terminals", -1, "'terminals' of dataset .* other numbers than 0 and 1"),
        ("timeouts", np.nan, "'timeouts' of dataset .* other numbers than 0 and 1"),
        ("actions", 50, "'actions' of dataset .* reaches 50, .* between -1 and 1"),
        ("actions", -1.1, "'actions' of dataset .* reaches 1.1, .* between -1 and 1"),
        ("actions", np.nan, "'actions' of dataset .* holds NaN or infinity"),
        ("observations", np.inf, "'observations' of dataset .* holds NaN or infinity"),
        ("rewards", 1e300, "'rewards' of dataset .* holds NaN or infinity"),
    ],
)
def test_numbers_that_no_recording_has(tmp_path, key, value, sentence):
    path, arrays = tmp_path / "data.hdf5", made()
    arrays[key] = arrays[key].astype(np.float64)
    arrays[key][0] = value
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    with pytest.raises(UserError, match=sentence):
        read_d4rl(path)

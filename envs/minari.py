"""Minari's datasets, read into D4RL's arrays; the `minari` package is needed for ids alone.

A folder holds `data/main_data.hdf5` with a group for each episode, which has one observation more
than actions. Minari's `mujoco/...` datasets are of v5 environments: they are not D4RL's.
"""

from importlib import import_module
from pathlib import Path

import h5py
import numpy as np

from transfer.envs.d4rl import Dataset, file_sha256, make_dataset, read_array
from transfer.errors import UserError

_FILE = Path("data", "main_data.hdf5")
#: Their names here and there.
_ARRAYS = {
    "observations": "observations",
    "actions": "actions",
    "rewards": "rewards",
    "terminals": "terminations",
    "timeouts": "truncations",
}


def minari_folder(name: str) -> Path:
    """The folder of a dataset by its id, downloaded if it is not there yet.

    Raises:
        UserError: minari is not installed, or there is no such dataset.
    """
    try:
        minari = import_module("minari")
    except ImportError as error:
        raise UserError(
            f"dataset {name} is a Minari id, which needs minari ({error}); "
            "run `pip install namm-transfer[minari]`, or name a file"
        ) from error
    try:
        dataset = minari.load_dataset(name, download=True)
    # What its remotes raise is their own: of the network, of the hub, of the disk.
    except Exception as error:
        raise UserError(
            f"Minari has no dataset {name} here and cannot fetch it ({type(error).__name__}); "
            "check the id with `minari list remote`, and the connection"
        ) from error
    return Path(dataset.storage.data_path).parent


def read_minari(folder: Path) -> Dataset:
    """Read a dataset's folder.

    Raises:
        UserError: it is no dataset's, or the file is cut, lacks an array, or holds unusable ones.
    """
    path = folder / _FILE
    if not path.is_file():
        raise UserError(
            f"folder {folder} has no {_FILE}; name a Minari dataset's folder or an .hdf5 file"
        )
    try:
        with h5py.File(path, "r") as file:
            episodes = [_episode(path, group) for group in _in_order(file)]
    except OSError as error:
        raise UserError(
            f"dataset {path} is cut or is not an HDF5 file; download it again"
        ) from error
    if not episodes:
        raise UserError(f"dataset {path} holds no episode; download it again")
    arrays = {key: np.concatenate([episode[key] for episode in episodes]) for key in _ARRAYS}
    return make_dataset(folder, file_sha256(path), arrays, {})


def _in_order(file: h5py.File) -> list[h5py.Group]:
    numbers = sorted(
        int(name) for key in file if (name := str(key).removeprefix("episode_")).isdecimal()
    )
    names = [f"episode_{number}" for number in numbers]
    return [group for group in map(file.get, names) if isinstance(group, h5py.Group)]


def _episode(path: Path, group: h5py.Group) -> dict[str, np.ndarray]:
    for theirs in _ARRAYS.values():
        if theirs not in group:
            raise UserError(f"{group.name} of dataset {path} has no {theirs!r}; download it again")
    arrays = {key: read_array(path, key, group[theirs]) for key, theirs in _ARRAYS.items()}
    arrays["observations"] = arrays["observations"][:-1]
    # A group is an episode even if its recording was stopped: it must not run on into the next.
    arrays["timeouts"][-1:] |= ~arrays["terminals"][-1:]
    return arrays

"""Minari's datasets, read into D4RL's arrays; the `minari` package is needed for ids alone.

A folder holds `data/main_data.hdf5` with a group for each episode, which has one observation more
than actions. Minari's `mujoco/...` datasets are of v5 environments: they are not D4RL's.
"""

import re
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np

from transfer.envs.d4rl import Dataset, file_sha256, make_dataset, read_numbers
from transfer.envs.hdf5 import member, opened
from transfer.errors import UserError

_FILE = Path("data", "main_data.hdf5")
_EPISODE = re.compile(r"episode_(\d{1,9})")
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
    with opened(path) as file:
        episodes = [_episode(path, group) for group in _in_order(path, file)]
    if not episodes:
        raise UserError(f"dataset {path} holds no episode; download it again")
    arrays = {key: np.concatenate([episode[key] for episode in episodes]) for key in _ARRAYS}
    return make_dataset(folder, file_sha256(path), arrays, {})


def _in_order(path: Path, file: h5py.File) -> list[h5py.Group]:
    numbers = {int(match[1]): str(key) for key in file if (match := _EPISODE.fullmatch(str(key)))}
    groups = [member(path, file, numbers[number]) for number in sorted(numbers)]
    return [group for group in groups if isinstance(group, h5py.Group)]


def _episode(path: Path, group: h5py.Group) -> dict[str, np.ndarray]:
    entries = {key: member(path, group, theirs) for key, theirs in _ARRAYS.items()}
    for key, theirs in _ARRAYS.items():
        if entries[key] is None:
            raise UserError(f"{group.name} of dataset {path} has no {theirs!r}; download it again")
    arrays = {key: read_numbers(path, key, entry) for key, entry in entries.items()}
    arrays["observations"] = arrays["observations"][:-1]
    # A group is an episode even if its recording was stopped: it must not run on into the next.
    arrays["timeouts"][-1:] |= ~arrays["terminals"][-1:]
    return arrays

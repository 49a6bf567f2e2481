"""Minari's datasets, written, and read into D4RL's arrays; `minari` is needed for ids alone.

A folder holds `data/main_data.hdf5` with a group for each episode, which has one observation more
than actions. Minari's `mujoco/...` datasets are of v5 environments: they are not D4RL's.
"""

import json
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

from transfer.envs.d4rl import ORIGIN, RECALL, Dataset, file_sha256, make_dataset
from transfer.envs.environment import Environment
from transfer.envs.hdf5 import made, member, opened
from transfer.envs.stored import Spaces, check_steps, joined, leaves, read_field, spaces_of
from transfer.errors import UserError
from transfer.files import locked, read_json_object, write_json

#: Of the episodes, in a dataset's folder.
MINARI_FILE = Path("data", "main_data.hdf5")
_ABOUT = "metadata.json"
#: Of the format that is written; earlier ones know no pictures that are no JPEGs.
_VERSION = "0.5.4"
_EPISODE = re.compile(r"episode_(\d{1,9})")
#: Of a dataset's folder.
MINARI_NAME = re.compile(r"[\w-]+-v\d+")
#: Their names here and there.
_ARRAYS = {
    "observations": "observations",
    "actions": "actions",
    "rewards": "rewards",
    "terminals": "terminations",
    "timeouts": "truncations",
    "recall": RECALL,
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


def read_minari(folder: Path, env: Environment | None = None) -> Dataset:
    """Read a dataset's folder.

    Args:
        folder: of the dataset.
        env: see `read_d4rl`.

    Raises:
        UserError: it is no dataset's, or the file is cut, lacks an array, or holds unusable ones.
    """
    path = folder / MINARI_FILE
    if not path.is_file():
        raise UserError(
            f"folder {folder} has no {MINARI_FILE}; name a Minari dataset's folder or an .hdf5 file"
        )
    spaces = spaces_of(env) if env else None
    with opened(path) as file:
        episodes = {
            f"{group.name} of dataset {path}": _episode(path, group, spaces)
            for group in _in_order(path, file)
        }
    if not episodes:
        raise UserError(f"dataset {path} holds no episode; download it again")
    digest, origin = file_sha256(path), _origin(path.with_name(_ABOUT))
    return make_dataset(folder, digest, joined(episodes), origin)


def write_minari(
    folder: Path,
    spaces: Spaces,
    episodes: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    metadata: Mapping[str, Any],
) -> None:
    """Write a dataset's folder, its metadata last.

    Args:
        folder: of the dataset, whose name is its id.
        spaces: of its observations and actions.
        episodes: the arrays of each by Minari's names, of which `observations` and `infos` have one
            step more than the others.
        seeds: of the episodes.
        metadata: further entries of metadata.json.
    """
    steps = [len(episode["rewards"]) for episode in episodes]
    with locked(folder / MINARI_FILE.parent):
        with made(folder / MINARI_FILE) as file:
            for number, episode in enumerate(episodes):
                group = file.create_group(f"episode_{number}")
                group.attrs.update(id=number, seed=seeds[number], total_steps=steps[number])
                for key, values in episode.items():
                    for name, array in leaves(key, values).items():
                        group[name] = array
        about = {
            "dataset_id": folder.name,
            "minari_version": _VERSION,
            "data_format": "hdf5",
            # Pictures are kept as they are.
            "jpeg_encoding": False,
            "observation_space": json.dumps(_described(spaces.observations)),
            "action_space": json.dumps(_described(spaces.actions)),
            "total_episodes": len(episodes),
            "total_steps": sum(steps),
        }
        write_json(folder / MINARI_FILE.with_name(_ABOUT), about | dict(metadata))


def _described(space: Space) -> dict[str, Any]:
    """A space as Minari's metadata say it."""
    said: dict[str, Any] = {"type": type(space).__name__}
    match space:
        case Box():
            said |= {"dtype": str(space.dtype), "shape": list(space.shape)}
            said |= {"low": space.low.tolist(), "high": space.high.tolist()}
        case Discrete():
            said |= {"dtype": "int64", "start": int(space.start), "n": int(space.n)}
        case MultiDiscrete():
            said |= {"dtype": str(space.dtype), "nvec": space.nvec.tolist()}
            said |= {"start": space.start.tolist()}
        case MultiBinary():
            said |= {"n": space.n}
        case Dict():
            said |= {"subspaces": {key: _described(one) for key, one in space.spaces.items()}}
        case Tuple():
            said |= {"subspaces": [_described(one) for one in space.spaces]}
    return said


def _origin(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    found = read_json_object(path)
    return {key: str(found[key]) for key in ORIGIN if isinstance(found.get(key), str | int)}


def _in_order(path: Path, file: h5py.File) -> list[h5py.Group]:
    numbers = {int(match[1]): str(key) for key in file if (match := _EPISODE.fullmatch(str(key)))}
    groups = [member(path, file, numbers[number]) for number in sorted(numbers)]
    return [group for group in groups if isinstance(group, h5py.Group)]


def _episode(path: Path, group: h5py.Group, spaces: Spaces | None) -> dict[str, np.ndarray]:
    arrays = {}
    for field, theirs in _ARRAYS.items():
        entry = member(path, group, theirs)
        if entry is not None:
            key = f"{group.name}/{theirs}".removeprefix("/")
            arrays[field] = read_field(path, field, key, entry, spaces)
        elif field != "recall":
            raise UserError(f"{group.name} of dataset {path} has no {theirs!r}; download it again")
    for field in {"observations", "recall"} & arrays.keys():
        # What was seen after the last action, which no action answered.
        arrays[field] = arrays[field][:-1]
    check_steps(path, str(group.name), arrays)
    # A group is an episode even if its recording was stopped: it must not run on into the next.
    arrays["timeouts"][-1:] |= ~arrays["terminals"][-1:]
    return arrays

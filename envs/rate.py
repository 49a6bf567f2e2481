"""Trajectories as RATE (CognitiveAISystems) stores them: a folder with an .npz file an episode.

A file has `obs`, `action`, `reward` and mostly `done`, an entry a step. RATE's T-Maze and ARShot
are pickles, which can run code when they are read: they are refused.
"""

import hashlib
import re
import zipfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from transfer.envs.d4rl import Dataset, file_sha256, make_dataset
from transfer.envs.environment import Environment
from transfer.envs.hdf5 import EXPANSION
from transfer.envs.stored import Spaces, as_field, check_steps, joined, spaces_of
from transfer.errors import UserError

_FIELDS = {"observations": "obs", "actions": "action", "rewards": "reward", "terminals": "done"}
_NEEDED = ("obs", "action", "reward")
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
#: Bytes that a file has at most, beside so many for each of its own: short episodes of zeros.
_FREE = 2**18


def is_rate(folder: Path) -> bool:
    """Whether a folder holds such files.

    Raises:
        UserError: it holds pickles.
    """
    if _files(folder, "npz"):
        return True
    if pickled := [*_files(folder, "pickle"), *_files(folder, "pkl")]:
        raise UserError(
            f"{pickled[0]} is a pickle, which could run code when it is read; store its episodes "
            f"as .npz files with the arrays {', '.join(_FIELDS.values())}"
        )
    return False


def read_rate(folder: Path, env: Environment | None = None) -> Dataset:
    """Read all episodes of a folder, in the order of the numbers in their names.

    Args:
        folder: of the .npz files.
        env: see `read_d4rl`.

    Raises:
        UserError: a file is cut, lacks an array, or holds unusable ones.
    """
    files = _files(folder, "npz")
    spaces = spaces_of(env) if env else None
    arrays = joined({f"dataset {file}": _episode(file, spaces) for file in files})
    digests = "".join(f"{file.name} {file_sha256(file)}\n" for file in files)
    return make_dataset(folder, hashlib.sha256(digests.encode()).hexdigest(), arrays, {})


def _files(folder: Path, suffix: str) -> list[Path]:
    return sorted((one for one in folder.glob(f"*.{suffix}") if one.is_file()), key=_number)


def _number(path: Path) -> tuple[int, str]:
    found = re.findall(r"\d{1,9}", path.stem)
    return int(found[-1]) if found else 0, path.name


def _episode(path: Path, spaces: Spaces | None) -> dict[str, np.ndarray]:
    stored = _arrays(path)
    arrays = {
        field: as_field(path, field, key, stored[key], spaces)
        for field, key in _FIELDS.items()
        if key in stored
    }
    check_steps(path, "the episode", arrays)
    # Its file ends an episode, of which `done` does not say whether time did.
    flags = arrays.setdefault("terminals", np.zeros(len(arrays["rewards"]), bool))
    arrays["timeouts"] = np.arange(len(flags)) == len(flags) - 1
    arrays["timeouts"][-1:] &= ~flags[-1:]
    return arrays


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {f"{key}.npy": key for key in _FIELDS.values()}
            there = {name: key for name, key in names.items() if name in archive.namelist()}
            _check_packed(path, [archive.getinfo(name) for name in there])
            arrays = {key: _array(path, archive, name) for name, key in there.items()}
    except UserError:
        raise
    # Damaged archives and headers make zipfile, its codecs and numpy raise nearly anything.
    except Exception as error:
        raise UserError(
            f"dataset {path} is cut, damaged or no .npz file; record or download it again"
        ) from error
    if missing := [key for key in _NEEDED if key not in arrays]:
        raise UserError(f"dataset {path} has no array {missing[0]!r}; record or download it again")
    return arrays


def _check_packed(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse members that unpack to more than recorded numbers do."""
    size, packed = sum(one.file_size for one in members), path.stat().st_size
    if size > EXPANSION * packed + _FREE:
        raise UserError(
            f"dataset {path} unpacks to {size:,} bytes, more than its {packed:,} can hold; record "
            "or download it again"
        )


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        shape, _, dtype = _HEADERS[npy.read_magic(member)](member)
    if dtype.kind not in "fiub":
        raise UserError(
            f"array {name.removesuffix('.npy')!r} of dataset {path} is not numeric; "
            "store its episodes as numbers"
        )
    if not shape:
        raise UserError(
            f"array {name.removesuffix('.npy')!r} of dataset {path} is one number, and not one a "
            "step; record it again"
        )
    if prod(shape, start=dtype.itemsize) > archive.getinfo(name).file_size:
        raise UserError(
            f"array {name.removesuffix('.npy')!r} of dataset {path} declares more bytes than are "
            "stored; record or download it again"
        )
    with archive.open(name) as member:
        return npy.read_array(member, allow_pickle=False)

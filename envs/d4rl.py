"""Offline datasets in D4RL's v2 file layout, read and written with h5py.

The layout is flat: N transitions one after another, `terminals` and `timeouts` marking where
episodes end. The `d4rl` package is not needed; beside mujoco-py, which it asks for, it often cannot
be imported.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Float

from transfer.arguments import typed
from transfer.envs.environment import Environment
from transfer.envs.hdf5 import check_plain, filled, made, member, opened
from transfer.envs.stored import Spaces, read_field, spaces_of
from transfer.errors import UserError

#: Steps after which D4RL's environments end an episode.
HORIZON = 1000
_REQUIRED = ("observations", "actions", "rewards", "terminals")
#: What rounding may make of an action of 1.
_LARGEST_ACTION = 1.001
_FLAGS = ("terminals", "timeouts")
#: Of the flags that say what an action depends on.
RECALL = "infos/recall"
#: What files say of how they were made.
ORIGIN = ("command", "seed", "environment", "iteration", "versions")


@dataclass(frozen=True)
class Trajectory:
    """One finished episode."""

    observations: Float[np.ndarray, "steps state"]
    actions: Float[np.ndarray, "steps action"]
    rewards: Float[np.ndarray, " steps"]
    terminated: bool
    recall: Bool[np.ndarray, " steps"] | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    @cached_property
    def returns_to_go(self) -> Float[np.ndarray, " steps"]:
        """Sum of the rewards from each step to the end, in double precision."""
        return np.cumsum(self.rewards[::-1].astype(np.float64))[::-1]

    @property
    def episode_return(self) -> float:
        """Sum of all rewards."""
        return float(self.returns_to_go[0])


@dataclass(frozen=True)
class Dataset:
    """The transitions of one file.

    Attributes:
        name: the file's base name.
        sha256: its digest.
        origin: what the file says of how it was made: command, seed, environment, versions, and the
            step of training (`iteration`); empty for files that say nothing.
        recall: steps whose action depends on something remembered; None: the file does not say.
    """

    name: str
    sha256: str
    observations: Float[np.ndarray, "transitions state"]
    actions: Float[np.ndarray, "transitions action"]
    rewards: Float[np.ndarray, " transitions"]
    terminals: Bool[np.ndarray, " transitions"]
    timeouts: Bool[np.ndarray, " transitions"]
    origin: Mapping[str, str] = field(default_factory=dict)
    recall: Bool[np.ndarray, " transitions"] | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    @cached_property
    def trajectories(self) -> list[Trajectory]:
        """The finished episodes, in order.

        The tail after the last end is dropped, as in the Decision Transformer's own conversion: its
        returns-to-go are unknown.
        """
        ends = np.flatnonzero(self.terminals | self.timeouts) + 1
        starts = np.concatenate([[0], ends[:-1]]) if len(ends) else []
        return [self._trajectory(slice(start, end)) for start, end in zip(starts, ends)]

    def _trajectory(self, rows: slice) -> Trajectory:
        return Trajectory(
            self.observations[rows],
            self.actions[rows],
            self.rewards[rows],
            bool(self.terminals[rows][-1]),
            None if self.recall is None else self.recall[rows],
        )


def state_statistics(
    trajectories: Sequence[Trajectory],
) -> tuple[Float[np.ndarray, " state"], Float[np.ndarray, " state"]]:
    """Mean and standard deviation (+ 1e-6) of each state dimension over all steps."""
    states = np.concatenate([trajectory.observations for trajectory in trajectories])
    states = states.astype(np.float64)
    return states.mean(0), states.std(0) + 1e-6


@typed
def read_d4rl(path: str | Path, env: Environment | None = None) -> Dataset:
    """Read a file in D4RL's layout.

    Accepts what is found in the wild: flags stored as numbers, rewards of shape (N, 1), no
    `timeouts` (then episodes also end at the horizon).

    Args:
        path: the `.hdf5` file.
        env: whose own observations and actions the file holds, which become vectors; None: they
            are vectors of numbers already.

    Raises:
        UserError: the file is missing, not HDF5, cut, lacks an array, or holds unusable ones.
    """
    path = Path(path)
    arrays, origin = _read_arrays(path, spaces_of(env) if env else None)
    horizon = env.horizon if env else HORIZON
    return make_dataset(path, file_sha256(path), arrays, origin, horizon)


def make_dataset(
    path: Path,
    sha256: str,
    arrays: dict[str, np.ndarray],
    origin: Mapping[str, str],
    horizon: int = HORIZON,
) -> Dataset:
    """Check arrays that were read from `path`, and say where episodes end.

    Args:
        path: that the dataset is named by.
        sha256: of its file.
        arrays: by the names of `Dataset`'s fields; without `timeouts`, episodes are at most
            `horizon` steps long.
        origin: how it was made.
        horizon: see `arrays`.

    Raises:
        UserError: their shapes do not fit each other, a number is not finite, or an action is not
            between -1 and 1.
    """
    _check_shapes(path, arrays)
    if "timeouts" not in arrays:
        arrays["timeouts"] = _timeouts_by_length(arrays["terminals"], horizon)
    return Dataset(name=path.name, sha256=sha256, origin=origin, **arrays)


def write_d4rl(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, np.ndarray | np.generic | bytes] | None = None,
) -> None:
    """Write transitions in D4RL's v2 layout, atomically.

    Arrays are compressed, except those that compress so well that a reader would take them for a
    bomb: views that hardly change.

    Args:
        path: the `.hdf5` file.
        arrays: `observations`, `actions`, `rewards`, `terminals`, `timeouts`, and further ones of
            the same length (`next_observations`, `infos/qpos`, ...). Flags are stored as bool,
            whole numbers as they are, the rest as float32.
        metadata: entries under `metadata/`, such as `algorithm` and `policy/fc0/weight`.
    """
    held = 0
    with made(path) as file:
        for key, values in arrays.items():
            found = np.asarray(values)
            real = found if found.dtype.kind in "iub" else found.astype(np.float32)
            stored = found.astype(np.bool_) if key in _FLAGS else real
            held = filled(file, key, stored, held)
        for key, value in (metadata or {}).items():
            file[f"metadata/{key}"] = value


def file_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_arrays(path: Path, spaces: Spaces | None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    remedy = "download it again or name a D4RL-format .hdf5 file"
    if not path.is_file():
        raise UserError(f"dataset {path} does not exist; {remedy}")
    with opened(path) as file:
        entries = {key: member(path, file, key) for key in (*_REQUIRED, "timeouts", RECALL)}
        missing = [key for key in _REQUIRED if entries[key] is None]
        if missing:
            raise UserError(f"dataset {path} has no array {missing[0]!r}; {remedy}")
        there = {key: entry for key, entry in entries.items() if entry is not None}
        arrays = {
            field: read_field(path, field, key, entry, spaces)
            for key, entry in there.items()
            for field in [key.removeprefix("infos/")]
        }
        return arrays, _origin(path, file)


def _origin(path: Path, file: h5py.File) -> dict[str, str]:
    found = {key: member(path, file, f"metadata/{key}") for key in ORIGIN}
    said: dict[str, str] = {}
    for key, entry in found.items():
        if isinstance(entry, h5py.Dataset) and entry.shape == ():
            check_plain(path, key, entry)
            value = entry[()]
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            said[key] = text
    return said


def _check_shapes(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    count = len(arrays["observations"])
    if count == 0:
        raise UserError(f"dataset {path} holds no transitions; record it again")
    for key, values in arrays.items():
        if len(values) != count:
            expected = f"({count}, size)" if values.ndim == 2 else f"({count},)"
            raise UserError(
                f"array {key!r} of dataset {path} has shape {values.shape} instead of {expected}; "
                "record it again"
            )
        if not np.isfinite(values).all():
            raise UserError(
                f"array {key!r} of dataset {path} holds NaN or infinity; record it again"
            )
    beyond = float(np.abs(arrays["actions"]).max(initial=0.0))
    if beyond > _LARGEST_ACTION:
        raise UserError(
            f"array 'actions' of dataset {path} reaches {beyond:g}, and a Decision Transformer's "
            "actions lie between -1 and 1; scale them"
        )


def _timeouts_by_length(terminals: np.ndarray, horizon: int) -> np.ndarray:
    timeouts = np.zeros_like(terminals)
    start = 0
    for end in [*(np.flatnonzero(terminals) + 1), len(terminals)]:
        timeouts[start + horizon - 1 : end : horizon] = True
        start = end
    return timeouts & ~terminals

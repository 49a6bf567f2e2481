"""Values of an environment's spaces as files keep them, in the environment's own numbers.

Choices are whole numbers and pictures bytes; a Dict is a group with an array for each of its keys,
and a Tuple one with `_index_0` and so on, as Minari has it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from gymnasium.spaces import Dict, Space, Tuple
from jaxtyping import Float

from transfer.envs.environment import Environment, make_env
from transfer.envs.hdf5 import member, read_array
from transfer.envs.spaces import own, recorded, vectors
from transfer.errors import UserError

_FLAGS = ("terminals", "timeouts", "recall")


class Spaces(NamedTuple):
    """An environment's own, before they are seen as vectors."""

    observations: Space
    actions: Space


def spaces_of(env: Environment) -> Spaces:
    """The spaces that an environment itself has.

    Raises:
        UserError: it cannot be made, or its spaces are not taken.
    """
    made = own(make_env(env))
    made.close()
    return Spaces(made.observation_space, made.action_space)


def stacked(space: Space, values: Sequence[Any]) -> Any:
    """Single values one after another: an array, or a dict or tuple of these as the space is."""
    match space:
        case Dict():
            return {
                key: stacked(inner, [one[key] for one in values])
                for key, inner in space.spaces.items()
            }
        case Tuple():
            parts = enumerate(space.spaces)
            return tuple(stacked(inner, [one[place] for one in values]) for place, inner in parts)
    return np.array(values, dtype=space.dtype).reshape(len(values), *(space.shape or ()))


def leaves(key: str, values: Any) -> dict[str, np.ndarray]:
    """What `stacked` gives as arrays by their names in a file."""
    if isinstance(values, tuple):
        values = _indexed(values)
    if not isinstance(values, Mapping):
        return {key: values}
    found = [leaves(f"{key}/{name}", part) for name, part in values.items()]
    return {name: part for each in found for name, part in each.items()}


def read_field(
    path: Path, field: str, key: str, entry: object, spaces: Spaces | None
) -> np.ndarray:
    """A field of a dataset from a file: bool flags, float32 numbers, or vectors of a space.

    Args:
        path: of the file.
        field: observations, actions, rewards, terminals, timeouts or recall.
        key: its name in the file.
        entry: what is there.
        spaces: of the environment; None: observations and actions are vectors already.

    Raises:
        UserError: it is not numeric, its bytes are not in the file, its shape is not that of the
            field, a flag is neither 0 nor 1, or a choice or an action is not in its space.
    """
    if spaces is not None and field == "observations":
        return _read_vectors(path, key, entry, spaces.observations)
    return as_field(path, field, key, read_array(path, key, entry), spaces)


def as_field(
    path: Path, field: str, key: str, values: np.ndarray, spaces: Spaces | None
) -> np.ndarray:
    """`read_field` of an array that has been read.

    Raises:
        UserError: its shape is not that of the field, a flag is neither 0 nor 1, or a choice or an
            action is not in its space.
    """
    if spaces is not None and field in Spaces._fields:
        read = recorded if field == "actions" else vectors
        return _as_vectors(path, key, values, getattr(spaces, field), read)
    if field in (*_FLAGS, "rewards") and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    _check_dimensions(path, key, values, 2 if field in Spaces._fields else 1)
    if field not in _FLAGS:
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    if not np.isin(values, (0, 1)).all():
        raise UserError(
            f"array {key!r} of dataset {path} holds other numbers than 0 and 1; record it again"
        )
    return values.astype(bool)


def check_steps(path: Path, what: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays of one episode that have different numbers of steps.

    Raises:
        UserError: they have.
    """
    counts = {field: len(values) for field, values in arrays.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} {field}" for field, count in counts.items())
        raise UserError(f"{what} of dataset {path} has {said}; record it again")


def joined(episodes: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of episodes one after another, of the fields that all of them have.

    Args:
        episodes: one or more, by what a sentence calls them; each array is `[steps, ...]`.

    Raises:
        UserError: they are not of one environment: their vectors have several lengths.
    """
    first = next(iter(episodes.values()))
    for where, arrays in episodes.items():
        for field in Spaces._fields:
            found, asked = arrays[field].shape[1:], first[field].shape[1:]
            if found != asked:
                raise UserError(
                    f"{where} has {field} of shape {found}, and the first episode of {asked}; "
                    "keep the episodes of each environment apart"
                )
    fields = [field for field in first if all(field in arrays for arrays in episodes.values())]
    return {field: np.concatenate([one[field] for one in episodes.values()]) for field in fields}


def _check_dimensions(path: Path, key: str, values: np.ndarray, dimensions: int) -> None:
    if values.ndim != dimensions:
        steps = len(values) if values.ndim else "steps"
        expected = f"({steps}, size)" if dimensions == 2 else f"({steps},)"
        raise UserError(
            f"array {key!r} of dataset {path} has shape {values.shape} instead of {expected}; "
            "record it again, or name the environment whose own they are"
        )


def _as_vectors(
    path: Path,
    key: str,
    values: np.ndarray,
    space: Space,
    read: Callable[[Space, np.ndarray], Float[np.ndarray, "count width"]] = vectors,
) -> Float[np.ndarray, "count width"]:
    found, asked = values.shape[1:], space.shape or ()
    # One number a step may be stored with or without a dimension of its own.
    if not values.ndim or [n for n in found if n != 1] != [n for n in asked if n != 1]:
        raise UserError(
            f"array {key!r} of dataset {path} has values of shape {found}, and those of the "
            f"environment have {asked}; name the data of this environment, or that of these data"
        )
    if space.dtype == np.uint8 and values.dtype.kind == "f" and (values % 1).any():
        raise UserError(
            f"array {key!r} of dataset {path} holds fractions, and the environment's are bytes; "
            "store them as they were seen"
        )
    try:
        return read(space, values)
    except UserError as error:
        raise UserError(f"array {key!r} of dataset {path}: {error}") from error


def _read_vectors(path: Path, key: str, entry: object, space: Space) -> np.ndarray:
    if entry is None:
        raise UserError(f"dataset {path} has no array {key!r}; record it again")
    if not isinstance(space, Dict | Tuple):
        return _as_vectors(path, key, read_array(path, key, entry), space)
    if not isinstance(entry, h5py.Group):
        raise UserError(
            f"array {key!r} of dataset {path} is one array, and the environment's are a "
            f"{type(space).__name__}; name the data of this environment, or that of these data"
        )
    inner = space.spaces
    named = inner if isinstance(inner, dict) else _indexed(inner)
    parts = [
        _read_vectors(path, f"{key}/{name}", member(path, entry, name), part)
        for name, part in named.items()
    ]
    counts = sorted({len(part) for part in parts})
    if len(counts) > 1:
        raise UserError(
            f"the arrays in {key!r} of dataset {path} have {counts} steps; record it again"
        )
    return np.concatenate(parts, axis=1)


def _indexed(parts: Sequence[Any]) -> dict[str, Any]:
    return {f"_index_{place}": part for place, part in enumerate(parts)}

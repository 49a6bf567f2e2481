"""Any observation and action as a vector of numbers, which is what a Decision Transformer reads.

Gymnasium's own `flatten` takes one value at a time, leaves the bytes of a picture as they are and
has no way back from numbers that are not exactly one-hot; recorded data come by the thousand.
"""

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from jaxtyping import Bool, Float

from transfer.errors import UserError

_TAKEN = "Box, Discrete, MultiDiscrete, MultiBinary"
#: Of half the distance between two bounds: what rounding may make of an action on one of them.
_ROUNDING = 1e-3


def width(space: Space) -> int:
    """Numbers of a value.

    Raises:
        UserError: it is of a kind that has no fixed number of them, or none at all; it is named.
    """
    match space:
        case Box():
            found = int(np.prod(space.shape))
        case Discrete() | MultiDiscrete() | MultiBinary():
            found = sum(choices(space))
        case Dict() | Tuple():
            found = sum(map(width, _parts(space)))
        case _:
            raise UserError(
                f"a {type(space).__name__} has no fixed number of numbers; use {_TAKEN}, or a Dict "
                "or Tuple of these"
            )
    if not found:
        raise UserError(f"{space} is empty; leave it out, or give it a value")
    return found


def picture(space: Space) -> tuple[int, ...]:
    """Shape of a value that can be seen as one picture, with or without channels; else ()."""
    return space.shape if isinstance(space, Box) and len(space.shape) in (2, 3) else ()


def choices(space: Space) -> tuple[int, ...]:
    """How many values each choice of an action has; () where actions are real numbers.

    Raises:
        UserError: it is no space of actions that can be taken, which is named.
    """
    match space:
        case Box():
            if space.dtype.kind != "f":
                raise UserError(
                    f"actions in {space} are whole numbers, which cannot be learned as real ones; "
                    "use a MultiDiscrete"
                )
            return ()
        case Discrete():
            return (int(space.n),)
        case MultiDiscrete():
            return tuple(map(int, space.nvec.ravel()))
        case MultiBinary():
            return (2,) * int(np.prod(space.shape))
    raise UserError(f"actions in a {type(space).__name__} cannot be taken; use {_TAKEN}")


def vectors(space: Space, values: Any) -> Float[np.ndarray, "count width"]:
    """Values of a space as numbers: one-hot where it counts, bytes divided by their largest.

    So pictures are from 0 to 1. Of real numbers, which many environments bound carelessly, those
    outside their bounds are taken.

    Args:
        space: that `width` takes.
        values: `[count, ...]`, for a Dict by its keys and for a Tuple one for each of its parts.

    Raises:
        UserError: a choice is not in the space.
    """
    match space:
        case Dict():
            parts = [vectors(inner, values[key]) for key, inner in space.spaces.items()]
            return np.concatenate(parts, axis=1)
        case Tuple():
            parts = [vectors(inner, part) for inner, part in zip(space.spaces, values)]
            return np.concatenate(parts, axis=1)
        case Box():
            flat = _single_precision(values)
            flat = flat.reshape(len(flat), width(space))
            return flat / space.high.clip(1).ravel() if space.dtype == np.uint8 else flat
    return _one_hot(space, np.asarray(values))


def recorded(space: Space, values: Any) -> Float[np.ndarray, "count width"]:
    """`vectors` of actions that were taken, which have to lie in their space.

    Raises:
        UserError: one does not, by more than rounding explains.
    """
    found = vectors(space, values)
    if isinstance(space, Box):
        low, high = (bound.ravel().astype(np.float64) for bound in (space.low, space.high))
        # Halves, which do not overflow.
        slack = _ROUNDING * np.minimum(high / 2 - low / 2, 1)
        _refuse(space, np.asarray(values), (found < low - slack) | (found > high + slack))
    return found


def native(space: Space, numbers: Float[np.ndarray, "count width"]) -> np.ndarray:
    """Actions as the environment takes them: the largest number of each choice, within bounds.

    Args:
        space: of actions.
        numbers: a vector each.
    """
    shape = (len(numbers), *(space.shape or ()))
    if isinstance(space, Box):
        return numbers.reshape(shape).astype(space.dtype).clip(space.low, space.high)
    groups = np.split(numbers, np.cumsum(choices(space))[:-1], axis=1)
    chosen = np.stack([group.argmax(1) for group in groups], axis=1) + _starts(space)
    return chosen.reshape(shape).astype(space.dtype)


class Vectors(gymnasium.Wrapper):
    """An environment whose observations and actions are vectors."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        inner = env.action_space
        # Which refuses more than `width` does.
        choices(inner)
        seen, acted = width(env.observation_space), width(inner)
        self.observation_space = Box(-np.inf, np.inf, (seen,), np.float32)
        if isinstance(inner, Box):
            low, high = (_single_precision(bound).ravel() for bound in (inner.low, inner.high))
            self.action_space = Box(low, high, dtype=np.float32)
        else:
            self.action_space = Box(0, 1, (acted,), np.float32)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(**options)
        return self._vector(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict]:
        """Take an action that is a vector."""
        taken = native(self.env.action_space, np.asarray(action)[None])[0]
        observation, reward, terminated, truncated, info = self.env.step(taken)
        return self._vector(observation), reward, terminated, truncated, info

    def _vector(self, observation: Any) -> np.ndarray:
        return vectors(self.env.observation_space, _single(observation))[0]


def as_vectors(env: gymnasium.Env) -> gymnasium.Env:
    """An environment whose observations and actions are vectors: itself where they are already.

    Raises:
        UserError: they cannot be, as `width` and `choices` say.
    """
    plain = _is_vector(env.observation_space) and _is_vector(env.action_space)
    return env if plain else Vectors(env)


def own(env: gymnasium.Env) -> gymnasium.Env:
    """What `as_vectors` was given, in its own numbers again, whatever was wrapped around since."""
    inner = env
    while isinstance(inner, gymnasium.Wrapper):
        if isinstance(inner, Vectors):
            return inner.env
        inner = inner.env
    return env


def _is_vector(space: Space) -> bool:
    """Whether its values are vectors of real numbers already."""
    if not isinstance(space, Box) or space.dtype.kind != "f":
        return False
    return len(space.shape) == 1 and space.shape[0] > 0


def _single_precision(values: Any) -> np.ndarray:
    """Infinite where they are too large, which is refused where it matters."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def _parts(space: Space) -> list[Space]:
    parts = getattr(space, "spaces", ())
    return list(parts.values() if isinstance(parts, dict) else parts)


def _single(value: Any) -> Any:
    """One value as a batch of one."""
    if isinstance(value, dict):
        return {key: _single(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_single, value))
    return np.asarray(value)[None]


def _starts(space: Space) -> np.ndarray:
    return np.ravel(getattr(space, "start", 0))


def _one_hot(space: Space, values: np.ndarray) -> Float[np.ndarray, "count width"]:
    sizes = np.array(choices(space))
    flat = values.reshape(len(values), len(sizes)) - _starts(space)
    _refuse(space, values, (flat < 0) | (flat >= sizes) | (flat != np.floor(flat)))
    ends = np.cumsum(sizes)
    found = np.zeros((len(values), int(ends[-1])), np.float32)
    np.put_along_axis(found, flat.astype(np.int64) + ends - sizes, 1.0, axis=1)
    return found


def _refuse(space: Space, values: np.ndarray, wrong: Bool[np.ndarray, "count width"]) -> None:
    if wrong.any():
        row = int(wrong.any(1).argmax())
        said = " ".join(str(values[row]).split())
        raise UserError(f"value {said} at {row} is not in {space}; check what recorded it")

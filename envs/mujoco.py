"""The three locomotion environments of D4RL in gymnasium, made by short names.

Version v4 is the default: its rewards, observations and resets are those of the v2 environments
that D4RL's data were recorded in. v5 pays no healthy reward on the terminal step and changes the
friction of Walker2d's feet.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import gymnasium

from transfer.errors import UserError, unknown_name

ENVS = {"hopper": "Hopper", "halfcheetah": "HalfCheetah", "walker2d": "Walker2d"}
VERSIONS = ("v4", "v5")
# MuJoCo answers these by putting the state back to its initial one, and goes on without an error.
_DIVERGED = ("mjWARN_BADQPOS", "mjWARN_BADQVEL", "mjWARN_BADQACC", "mjWARN_BADCTRL")


def env_name(name: str) -> str:
    """The short name behind `hopper`, `Hopper-v4` or `hopper-medium-v2`.

    Raises:
        UserError: no such environment.
    """
    short = name.split("-")[0].lower()
    if short not in ENVS:
        raise unknown_name("environment", name, ENVS)
    return short


def env_id(name: str, version: str = "v4") -> str:
    """The gymnasium id of a short name; a version within `name` (`hopper-v5`) goes first.

    Raises:
        UserError: unknown environment, or a version that gymnasium no longer runs.
    """
    named = re.fullmatch(r"(\w+)-(v\d+)", name)
    if named:
        name, version = named.groups()
    if name.lower() not in ENVS:
        raise unknown_name("environment", name, ENVS)
    if version not in VERSIONS:
        raise UserError(
            f"environment version {version!r} of {name} cannot be run here (v2 and v3 need"
            f" mujoco-py); use v4, which has the same rewards and observations, or v5"
        )
    return f"{ENVS[name.lower()]}-{version}"


def make_env(name: str, version: str = "v4", render_mode: str | None = None) -> gymnasium.Env:
    """One environment without gymnasium's checks of every step."""
    identifier = env_id(name, version)
    with _without_advice():
        return gymnasium.make(identifier, render_mode=render_mode, disable_env_checker=True)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence gymnasium's advice to use v5, and MuJoCo's about an attribute of HalfCheetah's file.

    MuJoCo would also write its own into a MUJOCO_LOG.TXT in the working folder.
    """
    mujoco = _mujoco()
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(_warn_unless_deprecated)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is out of date")
            yield
    finally:
        mujoco.set_mju_user_warning(before)


def _mujoco() -> Any:
    # a compiled module, whose names type checkers cannot see
    return import_module("mujoco")


def _warn_unless_deprecated(text: str) -> None:
    if "deprecated" not in text:
        warnings.warn(text, stacklevel=2)


def make_envs(
    name: str, count: int, version: str = "v4", *, video: bool = False
) -> list[gymnasium.Env]:
    """Make `count` environments of one kind.

    Args:
        name: hopper, halfcheetah or walker2d.
        count: how many, at least 1.
        version: v4 or v5.
        video: the first one can `render()` frames of height x width x 3 bytes.
    """
    if count < 1:
        raise UserError(f"{count} environments were asked for; ask for at least 1")
    first = make_env(name, version, "rgb_array" if video else None)
    return [first, *(make_env(name, version) for _ in range(count - 1))]


def use_headless_rendering() -> None:
    """Choose the EGL renderer where there is no display. Call it before mujoco is imported."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")


def diverged(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether MuJoCo met a non-finite or huge number since the last reset and hid it."""
    from gymnasium.envs.mujoco import MujocoEnv

    simulator = env.unwrapped
    if not isinstance(simulator, MujocoEnv):
        return False
    kinds = [getattr(_mujoco().mjtWarning, name) for name in _DIVERGED]
    return any(simulator.data.warning[kind].number for kind in kinds)

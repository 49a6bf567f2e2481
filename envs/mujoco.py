"""MuJoCo's own ways: its silent restarts, its advice, its renderer."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import gymnasium

# MuJoCo answers these by putting the state back to its initial one, and goes on without an error.
_DIVERGED = ("mjWARN_BADQPOS", "mjWARN_BADQVEL", "mjWARN_BADQACC", "mjWARN_BADCTRL")


@contextmanager
def without_advice() -> Iterator[None]:
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

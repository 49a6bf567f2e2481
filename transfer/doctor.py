"""What this installation can do: one line a finding, with the remedy where something is missing.

Every optional part is really tried, not only looked for. Packages that are known to misbehave on
import are tried in a process of their own.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.adapters.kinds import kind_of, shipped_models
from transfer.adapters.placement import Placement
from transfer.checkpoints import shipped
from transfer.provenance import versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_D4RL = 'pip install --no-deps d4rl==1.1 && pip install "gym<0.25" h5py tqdm'
_IMPORT_SECONDS = 120


@dataclass(frozen=True)
class Finding:
    """One line: what was tried, whether it works, what to know or do about it.

    Args:
        needed: the main commands do not work without it.
    """

    name: str
    ok: bool
    text: str
    needed: bool = False

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'NO' if self.needed else '--':2} {self.name:10} {self.text}"


def examine(
    model: str | None = None,
    trust_remote_code: bool = False,
    place: Placement | None = None,
) -> Iterator[Finding]:
    """Try everything, one finding after the other.

    Args:
        model: a shipped name, folder or hub id whose pruning is to be checked too.
        trust_remote_code: run the Python that it brings.
        place: where it computes; None: as `Placement` says.

    Raises:
        UserError: no such model, or one that cannot be pruned.
    """
    # First, though it is said last: Triton, loaded after Mesa's renderer, would end the process.
    checked = [] if model is None else [_checked(model, trust_remote_code, place or Placement())]
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield Finding("versions", True, found)
    yield _tried("simulator", _simulator, "pip install 'gymnasium[mujoco]' 'mujoco<5'", True)
    yield _tried("video", _video, "pip install av", True)
    yield _tried(
        "rendering",
        _rendering,
        "install libegl1 and libgl1-mesa-dri, or run with a display or MUJOCO_GL=osmesa",
    )
    yield _imported("decord", "not needed, PyAV reads videos without it; pip install decord")
    yield _imported("d4rl", f"not needed, its files are read without it; to have it: {_D4RL}")
    yield _imported("sbx", "only `transfer collect` needs it: pip install 'namm-transfer[collect]'")
    yield _imported("gguf", "only GGUF files need it: pip install 'namm-transfer[gguf]'")
    yield _imported("minari", "only Minari's ids need it: pip install 'namm-transfer[minari]'")
    memory = "pip install 'namm-transfer[memory]'"
    yield _imported("minigrid", f"only minigrid-memory needs it: {memory}")
    yield _imported("popgym", f"only repeat-previous, autoencode, concentration need it: {memory}")
    yield from _shipped()
    yield from checked


def _tried(name: str, attempt: Callable[[], str], remedy: str, needed: bool = False) -> Finding:
    try:
        return Finding(name, True, attempt(), needed)
    except Exception as error:
        # Anything may go wrong in a broken installation, and the report must go on.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return Finding(name, False, f"{reason[0]}; {remedy}", needed)


def _simulator() -> str:
    from transfer.envs.environment import D4RL, env_id, make_env

    env = make_env("hopper")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.close()
    return f"{', '.join(map(env_id, D4RL))}"


def _video() -> str:
    import numpy as np

    from transfer.evaluation.control import VIDEO_SUFFIXES
    from transfer.video.writer import write_video

    frames = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 255)]
    with tempfile.TemporaryDirectory() as folder:
        for suffix in VIDEO_SUFFIXES:
            write_video(Path(folder) / f"two{suffix}", frames, Fraction(30))
    return f"writes {' and '.join(VIDEO_SUFFIXES)}"


def _rendering() -> str:
    from transfer.envs.environment import make_envs
    from transfer.envs.mujoco import use_headless_rendering

    use_headless_rendering()
    [env] = make_envs("hopper", 1, video=True)
    env.reset(seed=0)
    frame: Any = env.render()
    env.close()
    return f"frames of {frame.shape[1]} x {frame.shape[0]} pixels"


def _imported(module: str, remedy: str) -> Finding:
    """Whether a package can be imported, tried in another process (d4rl may compile, or raise)."""
    if find_spec(module) is None:
        return Finding(module, False, f"not installed; {remedy}")
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            capture_output=True,
            text=True,
            timeout=_IMPORT_SECONDS,
            env={**os.environ, "D4RL_SUPPRESS_IMPORT_ERROR": "1"},
        )
    except subprocess.TimeoutExpired:
        return Finding(module, False, f"import took over {_IMPORT_SECONDS} s; {remedy}")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return Finding(module, False, f"{reason[0]}; {remedy}")
    return Finding(module, True, "can be imported")


def _shipped() -> list[Finding]:
    kinds = {
        "control": shipped_models("control"),
        "language": shipped_models("language"),
        "video-qa": shipped_models("video"),
        "NAMMs": list(shipped("namm.safetensors")),
    }
    return [
        Finding(kind, bool(names), ", ".join(names) or "none are shipped")
        for kind, names in kinds.items()
    ]


def _checked(name: str, trust_remote_code: bool, place: Placement) -> Finding:
    from transfer.attachment.check import check_adapter

    check = check_adapter(_model(name, trust_remote_code, place))
    return Finding("adapter", check.ok, f"{name}, {check}", needed=True)


def _model(name: str, trust_remote_code: bool, place: Placement) -> "PreTrainedModel":
    from transfer.adapters.control_model import load_control_model
    from transfer.adapters.language_model import load_language_model
    from transfer.adapters.video_model import load_video_model

    kind = kind_of(name)
    if kind == "control":
        return load_control_model(name, **place.settings).model
    load = load_language_model if kind == "language" else load_video_model
    return load(name, trust_remote_code=trust_remote_code, **place.settings).model

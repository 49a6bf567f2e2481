"""What a Decision Transformer needs beside its weights, and who says it: its file, or the user.

control.json says it where this package saved the model; for the nine published models, and copies
of them in folders of their names, this package knows it; for any other the user gives the
statistics of the training data, or names D4RL's.
"""

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from transfer.adapters.kinds import Source
from transfer.adapters.published_control import d4rl_statistics, published_copy, published_models
from transfer.envs.environment import data_quality, env_name, environment, parted
from transfer.errors import UserError, unknown_name
from transfer.files import read_json_object
from transfer.plugins import check_installed

#: Of an archive of statistics, which are a few hundred numbers.
_MOST_BYTES = 2**20
_DEFAULTS = {"quality": "unknown", "context": 20, "scale": 1000.0, "data": {}, "delayed": False}
_ENTRIES = ("state_mean", "state_std", "target_returns", "env", "choices", *_DEFAULTS)


def control_facts(
    source: Source, folder: Path, env: str | None, quality: str | None, statistics: Path | None
) -> dict[str, Any]:
    """What control.json holds, or would hold.

    Args:
        source: the model, as it was named.
        folder: of its files.
        env: that the user named.
        quality: likewise.
        statistics: likewise, a file as `read_statistics` takes it.

    Raises:
        UserError: nobody says it, or what the user says contradicts what the model says.
    """
    own = _own(source, folder)
    if own is None:
        return given_facts(folder, env, quality, statistics)
    if statistics is not None:
        raise UserError(
            f"model {source.name} brings its own state statistics; leave --state-statistics out"
        )
    _refuse_others(f"model {source.name}", own, env, quality)
    return own


def read_statistics(path: Path) -> dict[str, Any]:
    """Read a file of state statistics.

    Args:
        path: JSON, or an .npz of numpy. It has state_mean and state_std, and may have env,
            target_returns, scale, context, quality, delayed and choices, as control.json.

    Raises:
        UserError: the file cannot be read, or its entries are others.
    """
    content = _arrays(path) if path.suffix == ".npz" else read_json_object(path)
    for name in _ENTRIES[:2]:
        if name not in content:
            raise UserError(
                f"{path} has no entry {name!r}; it needs state_mean and state_std, the mean and "
                "standard deviation of the training states"
            )
    for name in content:
        if name not in _ENTRIES:
            raise unknown_name(f"entry of {path}", name, _ENTRIES)
    return content


def _own(source: Source, folder: Path) -> dict[str, Any] | None:
    if named := published_models().get(source.name):
        return _d4rl(*named)
    path = folder / "control.json"
    if not path.is_file():
        copied = published_copy(folder)
        return _d4rl(*copied) if copied else None
    own = read_json_object(path)
    check_installed(path, parted(str(own.get("env")))[0])
    return own


def _d4rl(env: str, quality: str) -> dict[str, Any]:
    statistics = d4rl_statistics(env, quality)
    known = {"env": env, "quality": quality, "target_returns": environment(env).targets}
    return {**_DEFAULTS, **known, **statistics}


def given_facts(
    folder: Path, env: str | None, quality: str | None, statistics: Path | None
) -> dict[str, Any]:
    """What control.json would hold, of a model that has none.

    Args:
        folder: of the model, or its file.
        env: its environment.
        quality: of D4RL's data that it learned from.
        statistics: a file as `read_statistics` takes it.

    Raises:
        UserError: the environment or the statistics are not said, or contradict each other.
    """
    quality = quality or data_quality(env)
    if statistics is None:
        if env is None or quality is None:
            raise UserError(
                f"{folder} has no control.json, which says the environment and the mean and "
                "standard deviation of the training states; give them with --state-statistics "
                "FILE and --env, or, for a model of D4RL's data, with --env and --quality"
            )
        return _d4rl(env_name(env), quality)
    given = read_statistics(statistics)
    _refuse_others(str(statistics), given, env, quality)
    named = given.get("env") or env
    if named is None:
        raise UserError(f"{statistics} names no environment; add an entry env, or give --env")
    found = environment(str(named))
    targets = given.get("target_returns") or found.targets
    if not targets:
        raise UserError(
            f"{statistics} has no target_returns, and {found.name} has none of its own; add the "
            "returns to ask for, the best first"
        )
    said = {"choices": found.choices} | ({"quality": quality} if quality else {})
    return {**_DEFAULTS, **said, **given, "env": found.spelled, "target_returns": targets}


def _refuse_others(who: str, said: dict[str, Any], env: str | None, quality: str | None) -> None:
    """Refuse an environment or quality that is not the one already said."""
    trained_in, trained_on = said.get("env"), said.get("quality")
    if env is not None and trained_in is not None and env_name(str(trained_in)) != env_name(env):
        raise UserError(
            f"{who} was trained for {trained_in}, not for {env}; "
            "leave --env out or choose another model"
        )
    for named, where in ((quality, "--quality"), (data_quality(env), "the data of --env")):
        if named is not None and trained_on not in (None, named):
            raise UserError(
                f"{who} was trained on {trained_on} data, not on {named}; "
                f"leave {where} out or choose another model"
            )


def _arrays(path: Path) -> dict[str, Any]:
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path} has more than {_MOST_BYTES:,} bytes; check the path")
    try:
        with ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
        with np.load(path, allow_pickle=False) as arrays:
            # None: refused below, for what it would unpack to.
            names = arrays.files if declared <= _MOST_BYTES else ()
            found = {name: arrays[name].tolist() for name in names}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from error
    # Damaged archives make zipfile, zlib and numpy raise nearly anything.
    except Exception as error:
        raise UserError(
            f"{path} is no whole archive of numbers; save it with numpy.savez from arrays of "
            "numbers and texts, or as JSON"
        ) from error
    if not found:
        raise UserError(f"{path} unpacks to {declared:,} bytes, or to nothing; check the path")
    return found

"""Offline datasets by name: files in D4RL's layout, D4RL's names, Minari's datasets, RATE's."""

import os
import re
from pathlib import Path

from transfer.arguments import typed
from transfer.envs.d4rl import Dataset, read_d4rl
from transfer.envs.environment import D4RL, QUALITIES, Environment, environment
from transfer.envs.minari import minari_folder, read_minari
from transfer.envs.rate import is_rate, read_rate
from transfer.errors import UserError

_URL = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2"
_D4RL_NAME = re.compile(rf"({'|'.join(D4RL)})-({'|'.join(QUALITIES)})-v2")
_MINARI_ID = re.compile(r"[\w-]+(/[\w-]+)+-v\d+")


@typed
def read_dataset(name: str | Path, env: Environment | str | None = None) -> Dataset:
    """Read a dataset.

    Args:
        name: an .hdf5 file in D4RL's layout; one of D4RL's names, such as `hopper-medium-v2`, of
            which the file has been downloaded; the folder or the id of a Minari dataset, such as
            `mujoco/hopper/expert-v0`; a folder of RATE's trajectories, an .npz file an episode.
        env: the environment, or its name, in whose own numbers it is: choices as whole numbers,
            pictures as bytes, Dicts as groups. They become the vectors of `transfer.envs.spaces`.
            None: observations and actions are vectors already, as D4RL's are.

    Raises:
        UserError: there is no such dataset, it cannot be used, or is of another environment.
    """
    path = Path(name)
    found = environment(env) if isinstance(env, str) else env
    if path.is_dir():
        return (read_rate if is_rate(path) else read_minari)(path, found)
    if path.exists():
        return read_d4rl(path, found)
    if named := _D4RL_NAME.fullmatch(str(name)):
        return read_d4rl(_downloaded(*named.groups()), found)
    if _MINARI_ID.fullmatch(str(name)):
        return read_minari(minari_folder(str(name)), found)
    return read_d4rl(path, found)


def _downloaded(env: str, quality: str) -> Path:
    """Where D4RL itself keeps the file of one of its names."""
    folder = os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets"
    file = f"{env}_{quality.replace('-', '_')}-v2.hdf5"
    path = Path(folder, file)
    if not path.is_file():
        raise UserError(
            f"dataset {env}-{quality}-v2 is not in {folder}; download {_URL}/{file} to there, or "
            "set D4RL_DATASET_DIR"
        )
    return path

"""Episodes that an environment's own scripted expert plays, now and then wrong where it remembers.

An environment has an expert if it has the method `expert(wrong=False)`, which gives the action for
what was seen last; `info["recall"]` says that this action depends on something remembered.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from jaxtyping import Bool, Float

from transfer.envs.d4rl import RECALL, write_d4rl
from transfer.envs.environment import Environment, make_env
from transfer.envs.minari import MINARI_FILE, MINARI_NAME, write_minari
from transfer.envs.spaces import own
from transfer.envs.stored import leaves, spaces_of, stacked
from transfer.errors import UserError
from transfer.files import check_writable

Layout = Literal["d4rl", "minari"]

#: How names of files in D4RL's layout end.
_HDF5 = (".hdf5", ".h5")


@dataclass(frozen=True)
class Played:
    """One episode in the environment's own numbers, as `stacked` gives them.

    Attributes:
        observations: one more than steps.
        actions: one a step.
        rewards: one a step.
        recall: of every observation, whether its action depends on something remembered.
        terminated: the environment ended it; otherwise time did.
        seed: it was reset with.
    """

    observations: Any
    actions: Any
    rewards: Float[np.ndarray, " steps"]
    recall: Bool[np.ndarray, " seen"]
    terminated: bool
    seed: int


def has_expert(env: Environment) -> bool:
    """Whether an environment has a scripted expert.

    Raises:
        UserError: it cannot be made.
    """
    made = make_env(env)
    made.close()
    return callable(getattr(made.unwrapped, "expert", None))


def checked_place(path: Path | None, layout: Layout) -> Path:
    """Where episodes can be written, before they are played.

    Raises:
        UserError: there is no path, nothing can be written there, something is there already, or
            its name is no file's or dataset's of the layout.
    """
    if path is None:
        raise UserError("--out is missing; name the file or folder for the episodes")
    if layout == "d4rl" and path.is_dir():
        raise UserError(f"--out {path} is a folder; name a file for the episodes")
    if layout == "d4rl" and path.suffix not in _HDF5:
        raise UserError(f"--out {path} becomes an HDF5 file; let its name end in {_HDF5[0]}")
    if layout == "minari" and not MINARI_NAME.fullmatch(path.name):
        raise UserError(
            f"--out {path} is no name of a Minari dataset; let it end in -v and a number, "
            "as tmaze/expert-v0"
        )
    file = path / MINARI_FILE if layout == "minari" else path
    if file.exists():
        raise UserError(f"--out {path} has episodes already; name another place, or delete it")
    check_writable(file, "episodes")
    return path


def play(env: Environment, seeds: Sequence[int], skilled: float) -> Iterator[Played]:
    """Episodes of the expert of `env`.

    Args:
        env: has an expert.
        seeds: of each episode.
        skilled: share of the episodes that are played rightly throughout; in the others every
            action that depends on something remembered is wrong with probability 1/2.
    """
    made = own(make_env(env))
    for place, seed in enumerate(seeds):
        right = round((place + 1) * skilled) > round(place * skilled)
        yield _episode(made, seed, 0.0 if right else 0.5, env.horizon)
    made.close()


def write(
    path: Path,
    layout: Layout,
    env: Environment,
    episodes: Sequence[Played],
    origin: Mapping[str, Any],
) -> None:
    """Write episodes in D4RL's file layout or as Minari's folder.

    Args:
        path: the file or the folder.
        layout: which of them.
        env: that was played.
        episodes: one or more.
        origin: entries of the metadata.
    """
    if layout == "minari":
        seeds = [one.seed for one in episodes]
        write_minari(path, spaces_of(env), [_of_minari(one) for one in episodes], seeds, origin)
        return
    parts = [_of_d4rl(one) for one in episodes]
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    told = {key: np.bytes_(one) if isinstance(one, str) else one for key, one in origin.items()}
    write_d4rl(path, arrays, told)


def _of_minari(one: Played) -> dict[str, Any]:
    last = np.arange(len(one.rewards)) == len(one.rewards) - 1
    return {
        "observations": one.observations,
        "actions": one.actions,
        "rewards": one.rewards,
        "terminations": last & one.terminated,
        "truncations": last & (not one.terminated),
        "infos": {"recall": one.recall},
    }


def _of_d4rl(one: Played) -> dict[str, np.ndarray]:
    found = _of_minari(one)
    seen = leaves("observations", one.observations)
    return {key: values[:-1] for key, values in seen.items()} | {
        **leaves("actions", one.actions),
        "rewards": one.rewards,
        "terminals": found["terminations"],
        "timeouts": found["truncations"],
        RECALL: one.recall[:-1],
    }


def _episode(env: gymnasium.Env, seed: int, wrong: float, horizon: int) -> Played:
    # Not the stream of the environment, which is seeded alike.
    rng = np.random.default_rng((seed, 1))
    expert = env.unwrapped.expert  # pyright: ignore[reportAttributeAccessIssue]
    observation, info = env.reset(seed=seed)
    seen, recall, actions, rewards = [observation], [bool(info.get("recall"))], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = expert(wrong=recall[-1] and bool(rng.random() < wrong))
        observation, reward, terminated, truncated, info = env.step(action)
        actions.append(action)
        rewards.append(reward)
        seen.append(observation)
        recall.append(bool(info.get("recall")))
        truncated |= len(rewards) >= horizon
    return Played(
        observations=stacked(env.observation_space, seen),
        actions=stacked(env.action_space, actions),
        rewards=np.array(rewards, np.float32),
        recall=np.array(recall),
        terminated=terminated,
        seed=seed,
    )

"""Playing episodes with what was trained: how snapshots are judged, and what the card reports."""

from collections.abc import Sequence

import gymnasium
import numpy as np
from jaxtyping import Float
from transformers import DynamicCache

from transfer.adapters.control_model import ControlModel
from transfer.adapters.decision_transformer import CachedController, WindowController
from transfer.envs.environment import Environment, environment
from transfer.envs.rollout import Controller, Episode, refuse_failures, rollout
from transfer.pretrain.decision_transformer.config import PretrainConfig


def protocols(config: PretrainConfig) -> tuple[str, ...]:
    """How episodes are played: by the first of these snapshots are judged; all are reported."""
    return ("full", "window") if config.whole_episodes else ("window",)


def play(
    config: PretrainConfig,
    control: ControlModel,
    protocol: str,
    envs: list[gymnasium.Env],
    seeds: Sequence[int],
    target: float,
) -> list[Episode]:
    """Play one episode per seed.

    Args:
        config: of the training.
        control: who plays.
        protocol: `window` encodes the last K steps anew, `full` remembers all of them.
        envs: as many episodes as these run at once.
        seeds: of the episodes.
        target: return to ask for.

    Raises:
        SimulationError: an episode failed.
    """
    steps = min(environment(config.env).horizon, config.max_ep_len)
    episodes, _ = rollout(
        _controller(control, protocol), envs, seeds, target, control.scale,
        max_steps=steps, delayed=control.delayed,
    )  # fmt: skip
    refuse_failures(episodes)
    return episodes


def scores(env: Environment, episodes: Sequence[Episode]) -> Float[np.ndarray, " episodes"]:
    """Each episode by the environment's metric."""
    if env.success:
        # One that was cut has not succeeded.
        return np.array([episode.success or 0.0 for episode in episodes])
    return np.asarray(env.score(np.array([episode.episode_return for episode in episodes])))


def _controller(control: ControlModel, protocol: str) -> Controller:
    if protocol == "window":
        return WindowController(control)
    return CachedController(control, lambda: DynamicCache(config=control.model.config))

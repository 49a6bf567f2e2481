"""Training windows of offline episodes: K consecutive steps that lie inside one episode.

No padding and no mask are needed: causal attention trains every shorter context at the window's
first steps anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfer.envs.d4rl import Trajectory, state_statistics
from transfer.errors import UserError


@dataclass(frozen=True)
class Windows:
    """All steps one after another, normalised, and the rows at which a window may begin."""

    states: Float[Tensor, "steps state"]
    actions: Float[Tensor, "steps action"]
    returns_to_go: Float[Tensor, "steps 1"]
    times: Int[Tensor, " steps"]
    starts: Int[Tensor, " windows"]
    state_mean: Float[Tensor, " state"]
    state_std: Float[Tensor, " state"]
    context: int

    def sample(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw `count` windows as the stock model's arguments, `[count, context, ...]` each."""
        chosen = torch.randint(len(self.starts), (count,), generator=generator)
        rows = self.starts[chosen, None] + torch.arange(self.context)
        return {
            "states": self.states[rows],
            "actions": self.actions[rows],
            "returns_to_go": self.returns_to_go[rows],
            "timesteps": self.times[rows],
        }


def make_windows(
    trajectories: Sequence[Trajectory], context: int, scale: float, delayed: bool = False
) -> Windows:
    """Lay the episodes out for sampling; episodes shorter than `context` steps give no window.

    Args:
        trajectories: the episodes.
        context: steps of a window.
        scale: divisor of returns.
        delayed: all reward comes at an episode's last step, so that its return-to-go stays.

    Raises:
        UserError: no episode is long enough.
    """
    lengths = np.array([len(trajectory) for trajectory in trajectories])
    if not (lengths >= context).any():
        raise UserError(
            f"no episode of the data has {context} steps; lower --context or record longer episodes"
        )
    firsts = np.cumsum(lengths) - lengths
    starts = [first + np.arange(max(n - context + 1, 0)) for first, n in zip(firsts, lengths)]
    mean, std = state_statistics(trajectories)
    states = np.concatenate([trajectory.observations for trajectory in trajectories])
    returns = np.concatenate(
        [
            np.full(len(one), one.episode_return) if delayed else one.returns_to_go
            for one in trajectories
        ]
    )
    return Windows(
        states=torch.from_numpy(((states - mean) / std).astype(np.float32)),
        actions=torch.from_numpy(np.concatenate([t.actions for t in trajectories])),
        returns_to_go=torch.from_numpy((returns / scale).astype(np.float32))[:, None],
        times=torch.from_numpy(np.concatenate([np.arange(n) for n in lengths])),
        starts=torch.from_numpy(np.concatenate(starts)),
        state_mean=torch.from_numpy(mean.astype(np.float32)),
        state_std=torch.from_numpy(std.astype(np.float32)),
        context=context,
    )

"""Batches of offline episodes: windows of K steps, or whole episodes padded at their end.

Neither needs an attention mask: causal attention trains every shorter context at a window's first
steps anyway, and no step sees the padding behind it, of which no loss is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.envs.d4rl import Trajectory, state_statistics
from transfer.errors import UserError

#: Share of the batches that are of the longest episodes allowed.
_NEWEST = 0.5


@dataclass(frozen=True)
class Batch:
    """Sequences of steps.

    Attributes:
        inputs: the stock model's arguments, `[rows, steps, ...]` each.
        real: steps that are no padding.
        recall: of them those whose action depends on something remembered; all where no data say.
    """

    inputs: dict[str, Tensor]
    real: Bool[Tensor, "rows steps"]
    recall: Bool[Tensor, "rows steps"]

    def stretched(self, positions: int, generator: torch.Generator) -> "Batch":
        """Every sequence at a random ascending choice of the first `positions` time steps.

        Of how many of these it chooses is drawn too: steps lie near each other or far apart.
        """
        times = torch.zeros_like(self.inputs["timesteps"])
        for row, count in enumerate(self.real.sum(1).tolist()):
            span = int(torch.randint(count, positions + 1, (), generator=generator))
            chosen = torch.randperm(span, generator=generator)[:count]
            times[row, :count] = chosen.sort().values
        return Batch(self.inputs | {"timesteps": times}, self.real, self.recall)


@dataclass(frozen=True)
class Steps:
    """All episodes' steps one after another, the states normalised."""

    states: Float[Tensor, "steps state"]
    actions: Float[Tensor, "steps action"]
    returns_to_go: Float[Tensor, "steps 1"]
    times: Int[Tensor, " steps"]
    recall: Bool[Tensor, " steps"]
    lengths: Int[Tensor, " episodes"]
    state_mean: Float[Tensor, " state"]
    state_std: Float[Tensor, " state"]

    @property
    def firsts(self) -> Int[Tensor, " episodes"]:
        """The row at which each episode begins."""
        return self.lengths.cumsum(0) - self.lengths

    def batch(self, rows: Int[Tensor, "rows steps"], real: Bool[Tensor, "rows steps"]) -> Batch:
        """These rows, of which some are padding."""
        inputs = {
            "states": self.states[rows],
            "actions": self.actions[rows],
            "returns_to_go": self.returns_to_go[rows],
            "timesteps": self.times[rows],
        }
        return Batch(inputs, real, self.recall[rows] & real)


@dataclass(frozen=True)
class Windows:
    """Draws K consecutive steps that lie inside one episode.

    Attributes:
        steps: of all episodes.
        starts: the rows at which a window may begin.
        context: K.
    """

    steps: Steps
    starts: Int[Tensor, " windows"]
    context: int

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """Draw `count` windows."""
        chosen = torch.randint(len(self.starts), (count,), generator=generator)
        rows = self.starts[chosen, None] + torch.arange(self.context)
        return self.steps.batch(rows, torch.ones_like(rows, dtype=torch.bool))


@dataclass(frozen=True)
class Episodes:
    """Draws whole episodes.

    Attributes:
        steps: of all episodes.
        levels: the episodes, by number, that each level of a curriculum adds.
    """

    steps: Steps
    levels: Sequence[Int[Tensor, " _"]]

    def sample(self, count: int, level: int, generator: torch.Generator) -> Batch:
        """Draw episodes that one of the levels up to `level` adds; every second time, this one.

        Args:
            count: steps of the batch, about.
            level: from 0.
            generator: of random numbers.
        """
        newest = torch.rand((), generator=generator) < _NEWEST
        other = int(torch.randint(level + 1, (), generator=generator))
        among = self.levels[level if newest else other]
        usual = self.steps.lengths[among].double().mean().item()
        draws = max(1, round(count / usual))
        chosen = among[torch.randint(len(among), (draws,), generator=generator)]
        lengths = self.steps.lengths[chosen, None]
        offsets = torch.arange(int(lengths.max()))
        # The padding repeats the last step.
        rows = self.steps.firsts[chosen, None] + offsets.minimum(lengths - 1)
        return self.steps.batch(rows, offsets < lengths)


def lay_out(
    trajectories: Sequence[Trajectory], scale: float, delayed: bool = False, normalise: bool = True
) -> Steps:
    """Lay the episodes out for sampling.

    Args:
        trajectories: the episodes.
        scale: divisor of returns.
        delayed: all reward comes at an episode's last step, so that its return-to-go stays.
        normalise: by the mean and standard deviation of their states.

    Raises:
        UserError: there is none.
    """
    if not trajectories:
        raise UserError("the data hold no finished episode; record some that end")
    lengths = [len(trajectory) for trajectory in trajectories]
    states = np.concatenate([trajectory.observations for trajectory in trajectories])
    mean, std = np.zeros(states.shape[1]), np.ones(states.shape[1])
    if normalise:
        mean, std = state_statistics(trajectories)
    returns = np.concatenate(
        [
            np.full(len(one), one.episode_return) if delayed else one.returns_to_go
            for one in trajectories
        ]
    )
    # Where some say what they recall, others say nothing; where nobody does, all steps count.
    unsaid = all(one.recall is None for one in trajectories)
    recall = [np.full(len(t), unsaid) if t.recall is None else t.recall for t in trajectories]
    return Steps(
        states=torch.from_numpy(((states - mean) / std).astype(np.float32)),
        actions=torch.from_numpy(np.concatenate([t.actions for t in trajectories])),
        returns_to_go=torch.from_numpy((returns / scale).astype(np.float32))[:, None],
        times=torch.from_numpy(np.concatenate([np.arange(n) for n in lengths])),
        recall=torch.from_numpy(np.concatenate(recall)),
        lengths=torch.tensor(lengths),
        state_mean=torch.from_numpy(mean.astype(np.float32)),
        state_std=torch.from_numpy(std.astype(np.float32)),
    )


def make_windows(steps: Steps, context: int) -> Windows:
    """Windows of `context` steps; episodes that are shorter give none.

    Raises:
        UserError: no episode is long enough.
    """
    counts = (steps.lengths - context + 1).clamp(min=0)
    if not counts.any():
        raise UserError(
            f"no episode of the data has {context} steps; lower --context, record longer episodes "
            "or learn from --whole-episodes"
        )
    starts = [first + torch.arange(n) for first, n in zip(steps.firsts, counts.tolist())]
    return Windows(steps, torch.cat(starts), context)


def make_episodes(steps: Steps, curriculum: Sequence[int]) -> Episodes:
    """Whole episodes in the order of a curriculum, an ascending list of lengths; () has one level.

    Raises:
        UserError: a level adds no episode, or some are longer than the last.
    """
    longest = int(steps.lengths.max())
    bounds = [0, *(curriculum or [longest])]
    if longest > bounds[-1]:
        raise UserError(
            f"the data have an episode of {longest} steps, but --curriculum ends with "
            f"{bounds[-1]}; add {longest}"
        )
    levels = []
    for low, high in pairwise(bounds):
        levels.append(torch.where((steps.lengths > low) & (steps.lengths <= high))[0])
        if not len(levels[-1]):
            raise UserError(
                f"--curriculum has a level of {high} steps, and no episode of the data has "
                f"{low + 1} to {high}; leave {high} out or record such episodes"
            )
    return Episodes(steps, levels)

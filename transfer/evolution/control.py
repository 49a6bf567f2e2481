"""Measuring candidates on control: all of them act at once, each in its own episodes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import Env
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from transfer.adapters.control_model import ControlModel, load_control_model
from transfer.adapters.decision_transformer import CachedController
from transfer.attachment.memory import attach
from transfer.cache.cache import PrunedCache
from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow
from transfer.envs.environment import make_envs
from transfer.envs.rollout import rollout
from transfer.evolution.cases import Case
from transfer.evolution.measured import Measured, Seconds, Watch
from transfer.namm.network import NAMM
from transfer.policies.namm import NAMMPolicy


@dataclass
class Casting:
    """Who plays which episode.

    Attributes:
        members: of each sequence of the batch the member that scores it, ascending.
    """

    members: Int[Tensor, " rows"]


@dataclass(frozen=True)
class Crowd(NAMMPolicy):
    """A population whose members' sequences leave one by one.

    Attributes:
        casting: changes as they leave.
        watch: how long it scores.
    """

    casting: Casting
    watch: Watch = field(default_factory=Watch)

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens size"]]:
        """Scores of the NAMM, each sequence's by its member."""
        with self.watch:
            features, age = state.flatten(0, 1), window.age.flatten(0, 1)
            scores = score_unevenly(self.namm, self.casting.members, features, age)
            return scores.view(state.shape[:3]), state


def score_unevenly(
    namm: NAMM,
    members: Int[Tensor, " rows"],
    features: Float[Tensor, "sequences tokens size"],
    age: Int[Tensor, "sequences tokens"],
) -> Float[Tensor, "sequences tokens"]:
    """As `NAMM.score`, with shares of unequal size: the smaller ones are filled up.

    Args:
        namm: a population.
        members: of each row, which has the same number of sequences, the member; ascending.
        features: see `NAMM.score`.
        age: see `NAMM.score`.
    """
    rows, heads = len(members), len(features) // len(members)
    counts = torch.bincount(members, minlength=namm.population)
    place = torch.arange(rows) - (counts.cumsum(0) - counts)[members]
    filled = torch.zeros(namm.population, int(counts.max()), dtype=torch.long)
    filled[members, place] = torch.arange(rows)
    chosen = (filled[..., None] * heads + torch.arange(heads)).flatten().to(features.device)
    scores = namm.score(features[chosen], age[chosen])
    return scores.view(*filled.shape, heads, -1)[members, place].flatten(0, 1)


class _CrowdController(CachedController):
    """Says which episodes are left, and notes what the others held at their end."""

    def __init__(
        self, control: ControlModel, new_cache: Callable[[], PrunedCache], casting: Casting
    ) -> None:
        self.casting = casting
        self.kept: dict[int, float] = {}
        super().__init__(control, new_cache)

    def reset(self, episodes: int) -> None:
        """Begin `episodes` new episodes."""
        super().reset(episodes)
        self.rows = torch.arange(episodes)

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep these episodes."""
        self.note()
        super().select(rows)
        self.rows = self.rows[rows]
        self.casting.members = self.casting.members[rows]

    def note(self) -> None:
        """The share of its tokens that each episode's heads hold."""
        assert isinstance(self.cache, PrunedCache)
        held = torch.tensor(self.cache.kept()).double().mean((0, 2)) / self.cache.pruned[0].seen
        self.kept |= dict(zip(self.rows.tolist(), held.tolist()))


@dataclass
class ControlTasks:
    """The Decision Transformers of a run, and their simulators.

    Args:
        names: of shipped models.
        place: their dtype, device and device_map.
    """

    names: Sequence[str]
    place: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._controls = {name: load_control_model(name, **self.place) for name in self.names}
        self._envs: dict[str, list[Env]] = {}

    @property
    def models(self) -> dict[str, PreTrainedModel]:
        """By their names."""
        return {name: control.model for name, control in self._controls.items()}

    def full(self, case: Case) -> Measured:
        """What returns are compared with: the model's highest target."""
        ones = np.ones((1, len(case.seeds)))
        return Measured(ones, 0 * ones, ones, Seconds())

    def measure(self, case: Case, namm: NAMM) -> Measured:
        """Every member plays every seed once; the return over the target stands for probability.

        A failed episode has NaN.
        """
        began = time.perf_counter()
        control, count = self._controls[case.model], namm.population
        crowd = Crowd(namm, Casting(torch.arange(count).repeat_interleave(len(case.seeds))))
        seeds, target = list(case.seeds) * count, control.target_returns[0]
        how = case.update_interval, case.budget, case.eviction
        with attach(control.model, crowd, *how, share=case.share) as memory:
            controller = _CrowdController(control, memory.new_cache, crowd.casting)
            episodes, clock = rollout(
                controller, self._envs_of(control, len(seeds)), seeds, target, control.scale,
                case.length, delayed=control.delayed,
            )  # fmt: skip
            controller.note()
            assert isinstance(controller.cache, PrunedCache)
        returns = np.array(
            [np.nan if one.failure else max(one.episode_return, 0.0) for one in episodes]
        )
        shape = count, len(case.seeds)
        kept = np.array([controller.kept[row] for row in range(len(seeds))])
        total = time.perf_counter() - began - clock.simulator_s
        seconds = Seconds.split(total, controller.cache, crowd.watch, clock.simulator_s)
        ratio = (returns / target).reshape(shape)
        return Measured(ratio, 0 * ratio, kept.reshape(shape), seconds)

    def watch(self, case: Case, policy: Policy) -> None:
        """Play the seeds under a policy that only looks."""
        control = self._controls[case.model]
        with attach(control.model, policy, case.update_interval) as memory:
            controller = CachedController(control, memory.new_cache)
            envs = self._envs_of(control, len(case.seeds))
            target = control.target_returns[0]
            rollout(controller, envs, case.seeds, target, control.scale, case.length)

    def _envs_of(self, control: ControlModel, count: int) -> list[Env]:
        envs = self._envs.setdefault(control.env, [])
        envs += make_envs(control.env, count - len(envs)) if len(envs) < count else []
        return envs[:count]

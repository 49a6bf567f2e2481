"""One episode through a pruned cache, and which of its steps are held at each of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from transfer.adapters.decision_transformer import TOKENS_PER_STEP
from transfer.arguments import typed
from transfer.cache.cache import PrunedCache
from transfer.envs.environment import Environment, make_envs
from transfer.envs.rollout import Episode, refuse_failures
from transfer.errors import UserError
from transfer.evaluation.control import ControlEval
from transfer.evaluation.control_benchmark import ControlBenchmark
from transfer.evaluation.measure import MeasuredController
from transfer.evaluation.options import ContenderOptions
from transfer.files import replacing
from transfer.inspection.config import InspectControl
from transfer.inspection.marked import Marked
from transfer.inspection.step_pictures import draw_steps
from transfer.progress import waiting

#: A square has a pixel for each.
_MOST_STEPS = 2000

Held = UInt8[np.ndarray, "layers heads now steps"]


@typed
def keep_steps(config: InspectControl) -> str:
    """Play the episode, draw what a policy holds at each step, and say it in a few lines.

    Raises:
        UserError: the model, the environment or the policy cannot be had, it keeps no cache, or
            Pillow is not installed.
        SimulationError: the episode failed.
    """
    benchmark = ControlBenchmark(_evaluation(config))
    contender = benchmark.contenders()[0]
    if benchmark.steps > _MOST_STEPS:
        raise UserError(
            f"episodes of {benchmark.steps} steps make no picture; give --max-steps, at most "
            f"{_MOST_STEPS}"
        )
    if contender.pruning is None:
        raise UserError(f"{contender.name} has no cache to draw; name another policy")
    env = Marked(_made(benchmark.env))
    target = benchmark.control.target_returns[0]
    with waiting("playing"), benchmark.controller(contender, [config.seed]) as controller:
        watched = Watched(controller)
        episodes = list(benchmark.stream(watched, [env], [config.seed], target))
    env.close()
    refuse_failures(episodes)
    held, [episode] = watched.held(), episodes
    cues, recalls = (env.marks(name)[: held.shape[-1]] for name in ("cue", "recall"))
    with replacing(config.out) as partial:
        draw_steps(held, cues, recalls, env.picture).save(partial)
    played = f"{config.out}: {contender.name} in {benchmark.env.title}, seed {config.seed}"
    return "\n".join((f"{played}: {_outcome(episode)}", *_holding(held, cues)))


def _outcome(episode: Episode) -> str:
    success = "" if episode.success is None else f", success {episode.success:.0%}"
    return f"{episode.length} steps, return {episode.episode_return:.2f}{success}"


def _holding(held: Held, cues: Bool[np.ndarray, " steps"]) -> Iterator[str]:
    """What is held at the end, and of what had to be remembered."""
    yield (
        f"at the end a layer and head holds {held[:, :, -1].sum(-1).mean():.1f} of "
        f"{TOKENS_PER_STEP * held.shape[-1]} tokens"
    )
    if cues.any():
        share = (held[:, :, -1, cues] > 0).mean()
        yield f"of {cues.sum()} steps to remember, {share:.0%} have a token in a head"


def _evaluation(config: InspectControl) -> ControlEval:
    return ControlEval(
        model=config.model,
        env=(config.env,) if config.env else (),
        memory=(),
        episodes=1,
        max_steps=config.max_steps,
        contenders=ContenderOptions(
            policy=(config.policy,),
            namm=(config.namm,),
            budget=(config.budget,),
            update_interval=config.update_interval,
            eviction=config.eviction,
        ),
        place=config.place,
    )


def _made(found: Environment) -> gymnasium.Env:
    """One that draws, where what it draws is a maze."""
    [env] = make_envs(found, 1)
    if not found.cues or "rgb_array" not in env.metadata.get("render_modes", ()):
        return env
    env.close()
    [env] = make_envs(found, 1, video=True)
    return env


class Watched:
    """A controller whose cache is looked at after every step of one episode."""

    def __init__(self, inner: MeasuredController) -> None:
        self._inner = inner
        self._positions: list[Sequence[Sequence[Tensor]]] = []

    def reset(self, episodes: int) -> None:
        """Begin."""
        self._inner.reset(episodes)

    def tell(self, cues: Bool[np.ndarray, " episodes"]) -> None:
        """Pass on which of the states that follow have to be remembered."""
        self._inner.tell(cues)

    def act(self, *given: Any) -> Float[Tensor, "episodes action"]:
        """The inner controller's action."""
        actions = self._inner.act(*given)
        cache = self._inner.cache
        assert isinstance(cache, PrunedCache)
        held = [[head.cpu() for head in layer.positions_of(0)] for layer in cache.pruned]
        self._positions.append(held)
        return actions

    def select(self, rows: Tensor) -> None:
        """The episode has ended."""
        self._inner.select(rows)

    def held(self) -> Held:
        """How many tokens of each step each head held at each step, 0 to 3."""
        steps = len(self._positions)
        counts = [
            [
                [torch.bincount(head // TOKENS_PER_STEP, minlength=steps) for head in layer]
                for layer in layers
            ]
            for layers in self._positions
        ]
        found = torch.stack([torch.stack([torch.stack(h) for h in layers]) for layers in counts])
        return found.permute(1, 2, 0, 3).numpy().astype(np.uint8)

"""The rollouts of one `transfer eval` for control: which protocols, on what, measured how."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from gymnasium import Env

from transfer.adapters.decision_transformer import (
    CachedController,
    ControlModel,
    WindowController,
    load_control_model,
)
from transfer.adapters.kinds import shipped_models
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.footprint import LayerShape
from transfer.cache.policy import Pruning
from transfer.envs.environment import env_id, env_name, environment, make_envs
from transfer.envs.mujoco import use_headless_rendering
from transfer.envs.noise import Noise
from transfer.envs.rollout import Controller, Episode, Frame, rollout
from transfer.errors import UserError, unknown_name
from transfer.evaluation.blocks import Block, BlockFolder
from transfer.evaluation.control import DEFAULT_ENV, MODEL, ControlEval
from transfer.evaluation.digest import model_digest, namm_digests
from transfer.evaluation.equal_bytes import EqualBytes
from transfer.evaluation.measure import MeasuredController
from transfer.evaluation.progress import EpisodeBar
from transfer.evaluation.readers import named_policies
from transfer.evaluation.results import Row
from transfer.policies import POLICIES, get_policy
from transfer.video.writer import check_writable, write_video

TOKENS_PER_STEP = 3
_FILM_FPS = 30


@dataclass(frozen=True)
class Protocol:
    """How a model remembers: by name, and how its cache is pruned (None: the stock window)."""

    name: str
    pruning: Pruning | None = None


@dataclass(frozen=True)
class ControlBlock(Block):
    """Episodes that run together."""

    target_return: float
    protocol: str


ControlFolder = BlockFolder[ControlBlock]


def plan(config: ControlEval, control: ControlModel) -> list[Protocol]:
    """The protocols to compare, each once.

    Raises:
        UserError: unknown policy or memory, or settings a policy cannot work with.
    """
    found = [_memory(name, control.context) for name in config.memory]
    names = sorted(set(POLICIES) - {"full"}) if "all" in config.policy else config.policy
    found += [_memory(name, control.context) for name in names if name == "full"]
    policies = [pair for name in names for pair in named_policies(name, config.namm)]
    scorers = [policy for _, policy in policies if policy.name == "namm"]
    equal = EqualBytes(
        LayerShape.of(control.model.config, control.model.dtype),
        TOKENS_PER_STEP * config.max_steps,
    )
    for name, policy in policies:
        pruning = Pruning(policy, config.update_interval, config.budget, config.eviction)
        if config.equal_bytes:
            pruning = equal.pruning(policy, pruning, scorers)
        found.append(Protocol(name, pruning))
    if config.budget is not None and policies:
        newest = get_policy("recency", sinks=0)
        pruning = Pruning(newest, config.update_interval, config.budget, config.eviction)
        found.append(Protocol("fifo", pruning))
    return list({protocol.name: protocol for protocol in found}.values())


def _memory(name: str, context: int) -> Protocol:
    if name == "window":
        return Protocol(name)
    if name == "full":
        return Protocol(name, Pruning(get_policy(name)))
    if name != "cache":
        raise unknown_name("memory", name, ("window", "cache", "full"))
    if context < 2:
        raise UserError("memory cache needs a context of 2 steps or more; raise --context")
    # What is left after a step, so that the next state attends to 3K - 1 tokens like the window's.
    budget = TOKENS_PER_STEP * context - 1 - TOKENS_PER_STEP
    return Protocol(name, Pruning(get_policy("recency", sinks=0), TOKENS_PER_STEP, budget))


class Run:
    """One evaluation; whatever could be wrong with its settings is found before the first episode.

    Args:
        config: of the run.

    Attributes:
        env_id: gymnasium's id of the environment.
        control: the model, with the context that the run uses.
        rows: one for each episode that has ended.

    Raises:
        UserError: unknown model, environment or policy, or a setting the model cannot follow.
    """

    def __init__(self, config: ControlEval) -> None:
        if config.env is not None:
            env_id(config.env, config.env_version)
        if config.video is not None:
            check_writable(config.video)
            use_headless_rendering()
        self.config = config
        self.control = _load(config)
        self.env_id = env_id(self.control.env, config.env_version)
        self.protocols = plan(config, self.control)
        self.targets = config.target_return or self.control.target_returns[:1]
        self.rows: list[Row] = []
        self._seconds: dict[ControlBlock, dict[str, float]] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the results: the options, and what the names in them stand for."""
        prunings = {one.name: one.pruning for one in self.protocols if one.pruning is not None}
        return {
            **self.config.settings,
            "env": self.env_id,
            "model files": model_digest(self.control.model),
            "namm vectors": namm_digests(prunings),
        }

    @property
    def seconds(self) -> dict[tuple[str, float], dict[str, float]]:
        """Of the simulator, the transformer and the policy, for each protocol and target."""
        found: dict[tuple[str, float], Counter[str]] = {}
        for block, seconds in self._seconds.items():
            found.setdefault((block.protocol, block.target_return), Counter()).update(seconds)
        return {key: dict(seconds) for key, seconds in found.items()}

    def play(self, folder: ControlFolder) -> bool:
        """Play every protocol and target that an earlier run has not finished, then film.

        Args:
            folder: receives each row as its episode ends.

        Returns:
            Whether Ctrl-C ended it early.
        """
        config = self.config
        self.rows, self._seconds = list(folder.earlier), dict(folder.seconds)
        left = [block for block in self._blocks() if block not in folder.seconds]
        count = min(config.num_envs, len(config.episode_seeds))
        envs = make_envs(self.control.env, count, config.env_version) if left else []
        try:
            with EpisodeBar(len(self.rows), left, config.max_steps) as bar:
                for block in left:
                    bar.describe(block.protocol)
                    self._play(block, envs, bar, folder)
            if config.video is not None:
                self._film(config.video)
        except KeyboardInterrupt:
            return True
        finally:
            for env in envs:
                env.close()
        return False

    def _blocks(self) -> list[ControlBlock]:
        seeds, size = self.config.episode_seeds, self.config.num_envs
        return [
            ControlBlock(tuple(seeds[start : start + size]), target, protocol.name)
            for protocol, target in product(self.protocols, self.targets)
            for start in range(0, len(seeds), size)
        ]

    def _play(
        self, block: ControlBlock, envs: Sequence[Env], bar: EpisodeBar, folder: ControlFolder
    ) -> None:
        [protocol] = [each for each in self.protocols if each.name == block.protocol]
        with self._controller(protocol, block.seeds, bar.stepped) as controller:
            began = time.perf_counter()

            def ended(episode: Episode) -> None:
                self.rows.append(self._row(protocol, episode, controller))
                folder.append(self.rows[-1])
                bar.ended()

            try:
                self._rollout(controller, envs, block.seeds, block.target_return, on_episode=ended)
            finally:
                self._seconds[block] = {
                    "simulator_seconds": time.perf_counter() - began - controller.act_seconds,
                    "transformer_seconds": controller.act_seconds - controller.policy_seconds,
                    "policy_seconds": controller.policy_seconds,
                }
        folder.finish_block(block, self._seconds[block])

    def _rollout(
        self,
        controller: Controller,
        envs: Sequence[Env],
        seeds: Sequence[int],
        target: float,
        **more: Any,
    ) -> None:
        config = self.config
        noise = Noise(config.noise, config.noise_every, config.noise_length)
        rollout(
            controller, envs, seeds, target, self.control.scale, config.max_steps,
            delayed=self.control.delayed, noise=noise if config.noise else None, **more,
        )  # fmt: skip

    @contextmanager
    def _controller(
        self, protocol: Protocol, seeds: Sequence[int], on_step: Callable[[int, int], None]
    ) -> Iterator[MeasuredController]:
        pruning = protocol.pruning
        if pruning is None:
            yield MeasuredController(WindowController(self.control), None, seeds, on_step)
            return
        with Memory(get_adapter(self.control.model), pruning) as memory:
            inner = CachedController(self.control, memory.new_cache)
            yield MeasuredController(inner, memory, seeds, on_step)

    def _row(self, protocol: Protocol, episode: Episode, controller: MeasuredController) -> Row:
        return {
            "model": self.config.model_name,
            "env": self.env_id,
            "protocol": protocol.name,
            **_settings(protocol.pruning),
            "context": self.control.context,
            "target_return": episode.target,
            "seed": episode.seed,
            "return": episode.episode_return,
            "score": float(environment(self.control.env).score(episode.episode_return)),
            "length": episode.length,
            "terminated": episode.terminated,
            "failure": episode.failure,
            **controller.held(episode.seed),
        }

    def _film(self, path: Path) -> None:
        remembered = {*self.config.memory, "fifo"}
        named = [each for each in self.protocols if each.name not in remembered]
        protocol = (named or self.protocols)[0]
        seeds = self.config.episode_seeds[:1]
        envs = make_envs(self.control.env, 1, self.config.env_version, video=True)
        fps = Fraction(envs[0].metadata["render_fps"])
        every = max(1, round(fps / _FILM_FPS))
        frames: list[Frame] = []
        with self._controller(protocol, seeds, lambda running, steps: None) as controller:
            target = self.targets[0]
            self._rollout(
                controller, envs, seeds, target, on_frame=frames.append, frame_every=every
            )
        envs[0].close()
        write_video(path, frames, fps / every)


def _load(config: ControlEval) -> ControlModel:
    control = load_control_model(_checkpoint(config))
    if config.env is not None and env_name(config.env) != control.env:
        raise UserError(
            f"model {config.model} was trained for {control.env}, not for {config.env}; "
            "leave --env out or choose another model"
        )
    control.check_horizon(config.max_steps)
    return replace(
        control,
        context=config.context or control.context,
        scale=config.scale or control.scale,
        delayed=control.delayed if config.delayed is None else config.delayed,
    )


def _checkpoint(config: ControlEval) -> str:
    shipped = shipped_models("control")
    name = config.model_name
    if name in shipped or Path(name).is_dir():
        return name
    if config.model == MODEL:
        raise UserError(
            f"no Decision Transformer of quality {config.quality} for {config.env or DEFAULT_ENV} "
            f"is shipped (shipped: {', '.join(shipped) or 'none'}); train one with "
            "`transfer pretrain decision-transformer` and name its folder with --model"
        )
    # Anything else with one slash may be a repository of the Hub.
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise unknown_name("model", name, [MODEL, *shipped])
    return name


def _settings(pruning: Pruning | None) -> Row:
    if pruning is None or not pruning.policy.evicts:
        return {"budget": None, "update_interval": None, "eviction": None}
    return {
        "budget": pruning.budget,
        "update_interval": pruning.update_interval,
        "eviction": pruning.eviction,
    }

"""Episodes of a Decision Transformer: the stock window, incremental caches, and any policy.

Where the environment marks the states that have to be remembered, `oracle` is a policy, too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, get_args

from gymnasium import Env

from transfer.adapters.control_model import (
    ControlModel,
    check_sizes,
    load_control_model,
    shipped_for,
)
from transfer.adapters.decision_transformer import (
    TOKENS_PER_STEP,
    CachedController,
    WindowController,
)
from transfer.adapters.kinds import CONTROL
from transfer.adapters.placement import computed
from transfer.adapters.weights import weights_digest
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.footprint import LayerShape
from transfer.cache.policy import Pruning
from transfer.envs.environment import environment, make_envs
from transfer.envs.mujoco import use_headless_rendering
from transfer.envs.noise import Noise
from transfer.envs.rollout import Clock, Episode, Frame, course_every, stream
from transfer.errors import UserError, unknown_name
from transfer.evaluation.benchmark import Benchmark, Block, Row
from transfer.evaluation.contenders import Contender, each_once, full, plan
from transfer.evaluation.control import ControlEval, Remembered
from transfer.evaluation.digest import model_digest
from transfer.evaluation.measure import KINDS, MeasuredController
from transfer.files import check_writable
from transfer.policies import get_policy
from transfer.policies.oracle import Oracle
from transfer.video.writer import write_video

_FILM_FPS = 30
_ORACLE = f"{Oracle.__module__}:{Oracle.__name__}"
_SECONDS = ("simulator_seconds", "transformer_seconds")


class ControlBenchmark(Benchmark):
    """Episodes of one environment, in batches that run together.

    Args:
        config: of the evaluation.

    Attributes:
        control: the model, with the context, scale and rewards that the run uses.
        envs: the environment in the settings that are played, one after the other.
        env: the first of them.
        steps: after which episodes are cut.

    Raises:
        UserError: unknown model or environment, or a setting the model cannot follow.
    """

    kind: ClassVar[str] = "control"
    bases = ("full", "window")
    keys = ("target_return",)
    means = ("length", "kept_age", "kept_cues", *KINDS)
    sums = _SECONDS

    def __init__(self, config: ControlEval) -> None:
        if config.video is not None:
            check_writable(config.video, "video")
            use_headless_rendering()
        self.config = config
        self.control = _load(config)
        asked = config.model == CONTROL
        named = next(iter(config.env), None)
        self.model = shipped_for(named, config.quality) if asked else config.model
        names = config.env or (self.control.env,)
        self.envs = [environment(name, config.env_version) for name in names]
        self.env = self.envs[0]
        self._check_alike()
        self.metrics = tuple(dict.fromkeys((self.env.metric, "return")))
        if config.noise and self.env.choices:
            raise UserError(
                f"noise is {config.noise}, and actions of {self.env.title} are choices, to which "
                "none can be added; leave --noise out"
            )
        self.steps = config.max_steps or max(env.horizon for env in self.envs)
        self.control.check_horizon(self.steps)
        self._made: tuple[str, list[Env]] = ("", [])

    def _check_alike(self) -> None:
        titles = [env.title for env in self.envs]
        for env in self.envs[1:]:
            if titles.count(env.title) > 1:
                raise UserError(f"--env names {env.title} twice; name each once")
            if env.name != self.env.name:
                raise UserError(
                    f"environments {self.env.title} and {env.title} are two, and the model plays "
                    "one; name one of them, with several settings where it has some"
                )
            check_sizes(self.control, env.spelled)

    def contenders(self) -> Sequence[Contender]:
        """The memories without a policy, the policies at every budget, and fifo."""
        options, model = self.config.contenders, self.control.model
        memories = [name for name in options.policy if name in get_args(Remembered)]
        found = [_memory(name, self.control.context) for name in (*self.config.memory, *memories)]
        named = [name for name in options.policy if name not in memories]
        options = replace(options, policy=tuple(map(self._spelled, named)))
        shape = LayerShape.of(model.config, model.dtype)
        policies = [_named(one) for one in plan(options, shape, TOKENS_PER_STEP * self.steps)]
        found += policies
        if policies and not any(one.name == "fifo" for one in policies):
            # A budget is all it has.
            fifo = replace(options, policy=("fifo",), threshold=(), equal=None, equal_bytes=False)
            budgets = tuple(budget for budget in options.budget if budget is not None)
            found += plan(replace(fifo, budget=budgets)) if budgets else []
        return each_once(found)

    def _spelled(self, name: str) -> str:
        """The oracle is no rule of the registry: only here is there somebody to tell it."""
        first, *settings = name.split(":")
        if first != Oracle.name:
            return name
        if not self.env.cues:
            raise UserError(
                f"policy oracle is told what has to be remembered, and {self.env.title} does not "
                "say it; leave it out"
            )
        return ":".join((_ORACLE, *settings))

    def blocks(self) -> Sequence[Block]:
        """Episodes that run together, for each setting of the environment and target return."""
        seeds, size = self.config.episode_seeds, self.config.num_envs
        targets = self.config.target_return or self.control.target_returns[:1]
        found = []
        for env, target, start in product(self.envs, targets, range(0, len(seeds), size)):
            own = seeds[start : start + size]
            about = {"task": env.title, "target_return": target}
            about["context"] = self.control.context
            items = [{**about, "item": seed, "cluster": seed} for seed in own]
            where = f"{env.title}/" if len(self.envs) > 1 else ""
            name = f"{where}{target:g}/{own[0]}-{own[-1]}"
            found.append(Block(name, items, (env, target, own)))
        return found

    def prepared(self, block: Block) -> Any:
        """Environments, the return asked for, and the seeds."""
        env, target, seeds = block.content
        if self._made[0] != env.title:
            self.close()
            count = min(self.config.num_envs, len(self.config.episode_seeds))
            self._made = env.title, make_envs(env, count)
        return self._made[1], target, seeds

    def rows(self, ready: Any, contender: Contender) -> Iterator[Row]:
        """What each episode returned, and what its cache holds when it ends."""
        envs, target, seeds = ready
        with self.controller(contender, seeds) as controller:
            spent: dict[str, float] = {}
            clock = Clock()
            for episode in self.stream(controller, envs, seeds, target, clock=clock):
                before, spent = spent, _spent(clock, controller)
                yield {
                    "item": episode.seed,
                    self.env.metric: self._score(episode),
                    "return": episode.episode_return,
                    "returns": list(episode.course),
                    "returns_every": course_every(self.steps),
                    "length": episode.length,
                    "terminated": episode.terminated,
                    "failure": episode.failure,
                    **controller.held(episode.seed),
                    # Of the batch since the row before.
                    **{name: spent[name] - before.get(name, 0.0) for name in spent},
                }

    def _score(self, episode: Episode) -> float:
        if not self.env.success:
            return float(self.env.score(episode.episode_return))
        # One that was cut short by --max-steps has not succeeded.
        return episode.success or 0.0

    def weights(self) -> str:
        """Digest of the model's."""
        return weights_digest(self.control.model)

    def digest(self) -> dict[str, Any]:
        """Of the model's files."""
        return {**self.versions(), "model files": model_digest(self.control.model)}

    def versions(self) -> dict[str, str]:
        """The environment's."""
        return {"env": " ".join(env.title for env in self.envs)}

    def computed(self) -> dict[str, str]:
        """Of the model."""
        return computed(self.control.model)

    def about(self, rows: Sequence[Row], failed: Sequence[Row]) -> Row:
        """Steps that the window re-encodes."""
        return {"context": rows[0]["context"]}

    def finish(self, contenders: Sequence[Contender]) -> None:
        """Film an episode, if one is asked for."""
        if self.config.video is not None:
            others = {*self.config.memory, "fifo"}
            policies = [one for one in contenders if one.name not in others]
            self._film(self.config.video, (policies or contenders)[0])

    def close(self) -> None:
        """Close the environments."""
        for env in self._made[1]:
            env.close()
        self._made = ("", [])

    def stream(
        self, controller: Any, envs: Sequence[Env], seeds: Sequence[int], target: float, **more: Any
    ) -> Iterator[Episode]:
        """Play episodes as the evaluation says; see `transfer.envs.rollout.stream`."""
        config = self.config
        noise = Noise(config.noise, config.noise_every, config.noise_length)
        return stream(
            controller, envs, seeds, target, self.control.scale, self.steps,
            delayed=self.control.delayed, noise=noise if config.noise else None, **more,
        )  # fmt: skip

    @contextmanager
    def controller(
        self, contender: Contender, seeds: Sequence[int]
    ) -> Iterator[MeasuredController]:
        """Who plays episodes of these seeds with a contender's memory."""
        if contender.pruning is None:
            yield MeasuredController(WindowController(self.control), None, seeds)
            return
        with Memory(get_adapter(self.control.model), contender.pruning) as memory:
            policy = contender.pruning.policy
            after = policy.after if isinstance(policy, Oracle) else None
            inner = CachedController(self.control, memory.new_cache, after)
            yield MeasuredController(inner, memory, seeds)

    def _film(self, path: Path, contender: Contender) -> None:
        [block, *_] = self.blocks()
        env, target, (seed, *_) = block.content
        envs, seeds = make_envs(env, 1, video=True), [seed]
        fps = Fraction(envs[0].metadata.get("render_fps", _FILM_FPS))
        every = max(1, round(fps / _FILM_FPS))
        frames: list[Frame] = []
        film: dict[str, Callable[[Frame], None] | int]
        film = {"on_frame": frames.append, "frame_every": every}
        with self.controller(contender, seeds) as controller:
            list(self.stream(controller, envs, seeds, target, **film))
        envs[0].close()
        write_video(path, frames, fps / every)


def _load(config: ControlEval) -> ControlModel:
    control = load_control_model(
        config.model,
        next(iter(config.env), None),
        config.quality,
        config.state_statistics,
        **config.place.settings,
    )
    return replace(
        control,
        context=config.context or control.context,
        scale=config.scale or control.scale,
        delayed=control.delayed if config.delayed is None else config.delayed,
    )


def _named(one: Contender) -> Contender:
    return replace(one, name=one.name.replace(_ORACLE, Oracle.name))


def _memory(name: str, context: int) -> Contender:
    if name == "window":
        return Contender(name)
    if name == "full":
        return full()
    if name != "cache":
        raise unknown_name("memory", name, ("window", "cache", "full"))
    if context < 2:
        raise UserError("memory cache needs a context of 2 steps or more; raise --context")
    # What is left after a step, so that the next state attends to 3K - 1 tokens like the window's.
    budget = TOKENS_PER_STEP * context - 1 - TOKENS_PER_STEP
    newest = get_policy("recency", sinks=0)
    return Contender(name, Pruning(newest, TOKENS_PER_STEP, budget))


def _spent(clock: Clock, controller: MeasuredController) -> dict[str, float]:
    acting = controller.act_seconds
    parts = (clock.simulator_s, acting - controller.policy_seconds, controller.policy_seconds)
    return dict(zip((*_SECONDS, "policy_seconds"), parts))

"""Rolls a controller through many environments at once, one step of all of them per call.

Plain environments in a list rather than a vector environment: finished episodes leave the batch, so
no step is computed for them, and none restarts by itself. Simulator and policy are timed apart.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.arguments import typed
from transfer.envs.mujoco import diverged
from transfer.envs.noise import Noise
from transfer.envs.spaces import choices, own
from transfer.errors import SimulationError, UserError

Frame = np.ndarray
_POINTS = 20


@runtime_checkable
class Controller(Protocol):
    """What chooses the actions of a batch of episodes that all stand at the same time step."""

    def reset(self, episodes: int) -> None:
        """Forget everything: `episodes` new episodes begin."""
        ...

    def act(
        self,
        states: Float[Tensor, "episodes state"],
        returns_to_go: Float[Tensor, "episodes 1"],
        previous_actions: Float[Tensor, "episodes action"] | None,
    ) -> Float[Tensor, "episodes action"]:
        """Actions for this step, from raw states; counts its own time step."""
        ...

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep these rows of the batch; the other episodes have ended."""
        ...


@runtime_checkable
class Told(Protocol):
    """A controller that is told, before it acts, which of the states have to be remembered."""

    def tell(self, cues: Bool[np.ndarray, " episodes"]) -> None:
        """Whether the environment's `info["cue"]` says so of the state that follows."""
        ...


@dataclass(frozen=True)
class Episode:
    """One finished episode.

    Attributes:
        seed: it was reset with.
        target: the return asked for.
        episode_return: sum of the rewards; of a failed episode, until it failed.
        length: in environment steps.
        terminated: by the environment, not by time or a failure.
        failure: what broke down, in a sentence; None: nothing did.
        place: among the seeds, which may be the same.
        success: how far it succeeded, from 0 to 1, as the environment says; None: it does not.
        course: sum of the rewards up to every `course_every` steps from 0 on, and at the end; to
            six digits, for pictures.
    """

    seed: int
    target: float
    episode_return: float
    length: int
    terminated: bool
    failure: str | None = None
    place: int = 0
    success: float | None = None
    course: tuple[float, ...] = ()


def course_every(max_steps: int) -> int:
    """Steps between two points of an episode's course, so that there are 20 at most."""
    return -(-max_steps // _POINTS)


def refuse_failures(episodes: Sequence[Episode]) -> None:
    """For who needs every episode.

    Raises:
        SimulationError: one failed.
    """
    for episode in episodes:
        if episode.failure is not None:
            raise SimulationError(episode.failure)


@dataclass
class Clock:
    """Wall seconds spent in the simulator and in the policy."""

    simulator_s: float = 0.0
    policy_s: float = 0.0


def rollout(*args: Any, **more: Any) -> tuple[list[Episode], Clock]:
    """`stream` to its end.

    Returns:
        The episodes in the order of their seeds, and the time they took.
    """
    clock = Clock()
    episodes = stream(*args, clock=clock, **more)
    return sorted(episodes, key=lambda episode: episode.place), clock


@typed
def stream(
    controller: Controller,
    envs: Sequence[gymnasium.Env],
    seeds: Sequence[int],
    target_return: float,
    scale: float,
    max_steps: int = 1000,
    on_frame: Callable[[Frame], None] | None = None,
    frame_every: int = 4,
    delayed: bool = False,
    noise: Noise | None = None,
    clock: Clock | None = None,
) -> Iterator[Episode]:
    """Play one episode per seed, `len(envs)` at a time, and yield each when it ends.

    An episode whose simulator raises, diverges or answers with what is no state, reward or number
    ends there and says so; the others go on.

    Args:
        controller: chooses the actions, of which real ones are clipped to their space. An episode
            that is yielded is still in its batch.
        envs: environments of one kind; reset with the seeds, so they can be used again.
        seeds: one per episode.
        target_return: the return asked for. The first return-to-go is `target_return / scale`; each
            reward, divided by `scale`, is taken off it.
        scale: divisor of returns.
        max_steps: episodes are cut here if the environment has not ended them.
        on_frame: receives height x width x 3 bytes of the first seed's episode; `envs[0]` must then
            have been made for rendering.
        frame_every: every how many steps a frame is drawn.
        delayed: the controller learns of no reward before the end, so that its return-to-go stays.
        noise: added to the actions before they are executed. The controller is told what was.
        clock: what the seconds are added to.

    Raises:
        UserError: an argument is of the wrong type or out of range; at the call.
    """
    _check_numbers(len(envs), target_return, scale, max_steps, frame_every)
    clock = clock or Clock()

    def episodes() -> Iterator[Episode]:
        for start in range(0, len(seeds), len(envs)):
            batch = _Batch(envs, seeds[start : start + len(envs)], target_return, scale, clock)
            batch.delayed, batch.noise = delayed, noise
            if on_frame is not None and start == 0:
                batch.film(on_frame, frame_every)
            for episode in batch.play(controller, max_steps):
                yield replace(episode, place=start + episode.place)

    return episodes()


def _check_numbers(
    envs: int, target_return: float, scale: float, max_steps: int, frame_every: int
) -> None:
    if not envs:
        raise UserError("there is no environment to play in; give one or more")
    if not math.isfinite(target_return):
        raise UserError(f"target_return is {target_return}; use a finite number")
    if not 0 < scale < math.inf:
        raise UserError(f"scale is {scale}; use a number above 0")
    for name, value in (("max_steps", max_steps), ("frame_every", frame_every)):
        if value < 1:
            raise UserError(f"{name} is {value}; use 1 or more")


class _Answer(NamedTuple):
    """What an environment says of a step, as numbers; None: nothing about success."""

    state: Float[np.ndarray, " state"]
    reward: float
    terminated: bool
    truncated: bool
    cue: bool
    success: float | None


def _answer(shape: tuple[int, ...], answered: tuple[Any, ...]) -> _Answer:
    """From what `step` returned, which is no such thing where numpy or Python raise."""
    state, reward, terminated, truncated, info = answered
    success = float(info["success"]) if "success" in info else None
    if success is not None and not math.isfinite(success):
        raise ValueError(f"info['success'] is {success}")
    return _Answer(
        state=_vector(shape, state),
        reward=float(reward),
        terminated=bool(terminated),
        truncated=bool(truncated),
        cue=bool(info.get("cue")),
        success=success,
    )


def _vector(shape: tuple[int, ...], state: Any) -> np.ndarray:
    """A state in single precision: infinite where it is too large, an error if of another shape."""
    with np.errstate(over="ignore"):
        found = np.asarray(state).astype(np.float32)
    if found.shape != shape:
        raise ValueError(f"an observation of shape {found.shape} instead of {shape}")
    return found


def _numbers(actions: Tensor) -> np.ndarray:
    """For the simulator, which knows no half precision."""
    exact = torch.promote_types(actions.dtype, torch.float32)
    return actions.to(exact).numpy(force=True)


class _Batch:
    """Episodes that run together; `running` are the indices of those that have not ended."""

    def __init__(
        self,
        envs: Sequence[gymnasium.Env],
        seeds: Sequence[int],
        target: float,
        scale: float,
        clock: Clock,
    ) -> None:
        self.envs, self.seeds = envs, list(seeds)
        self.target, self.scale, self.clock = target, scale, clock
        self.delayed = False
        self.noise: Noise | None = None
        self.running = np.arange(len(seeds))
        self.returns = np.zeros(len(seeds))
        self.courses = [[0.0] for _ in seeds]
        self.space = envs[0].action_space
        self.chooses = bool(choices(own(envs[0]).action_space))
        self.shape = envs[0].observation_space.shape or ()
        self.states = np.zeros((len(seeds), *self.shape), np.float32)
        self.cues = np.zeros(len(seeds), bool)
        self.successes: dict[int, float] = {}
        self.failures: dict[int, str] = {}
        self._on_frame: Callable[[Frame], None] | None = None
        self._frame_every = 1

    def film(self, on_frame: Callable[[Frame], None], every: int) -> None:
        self._on_frame, self._frame_every = on_frame, every

    def play(self, controller: Controller, max_steps: int) -> Iterator[Episode]:
        controller.reset(len(self.seeds))
        self._reset()
        actions = None
        for step in range(max_steps):
            self._draw(step)
            actions = self._act(controller, actions, step)
            terminated, truncated = self._step(_numbers(actions), step)
            if (step + 1) % course_every(max_steps) == 0:
                self._note(self.running.tolist())
            ended = terminated | truncated | (step + 1 == max_steps)
            self._check(ended, step)
            ended |= np.isin(self.running, list(self.failures))
            if not ended.any():
                continue
            if (step + 1) % course_every(max_steps):
                self._note(self.running[ended].tolist())
            yield from self._finish(ended, terminated, step + 1)
            if not len(self.running):
                return
            kept = torch.from_numpy(np.flatnonzero(~ended))
            controller.select(kept)
            actions = actions[kept]

    def _reset(self) -> None:
        began = time.perf_counter()
        for row, seed in enumerate(self.seeds):
            try:
                state, info = self.envs[row].reset(seed=seed)
                self.states[row], self.cues[row] = _vector(self.shape, state), bool(info.get("cue"))
            # What an environment raises, and what its answer makes numpy raise, is its own.
            except Exception as error:
                self._fail_row(row, 0, f"the simulator could not begin ({error})")
        self._check_finite(np.zeros(len(self.seeds)), 0)
        # The controller acts for them once more, for the last time.
        self.states[list(self.failures)] = 0.0
        self.clock.simulator_s += time.perf_counter() - began

    def _draw(self, step: int) -> None:
        shown = 0 in self.running and 0 not in self.failures
        if self._on_frame is not None and shown and step % self._frame_every == 0:
            self._on_frame(np.asarray(self.envs[0].render()))

    def _act(self, controller: Controller, previous: Tensor | None, step: int) -> Tensor:
        """The actions to execute, disturbed if they are to be."""
        began = time.perf_counter()
        received = 0.0 if self.delayed else self.returns[self.running, None]
        to_go = np.broadcast_to((self.target - received) / self.scale, (len(self.running), 1))
        states = torch.from_numpy(self.states.copy())
        returns_to_go = torch.from_numpy(to_go.astype(np.float32))
        if isinstance(controller, Told):
            controller.tell(self.cues)
        actions = controller.act(states, returns_to_go, previous)
        self.clock.policy_s += time.perf_counter() - began
        if self.noise is not None:
            seeds = [self.seeds[index] for index in self.running.tolist()]
            actions = self.noise.added(actions, seeds, step)
        return actions if self.chooses else self._clipped(actions)

    def _clipped(self, actions: Tensor) -> Tensor:
        assert isinstance(self.space, gymnasium.spaces.Box)
        low, high = (torch.from_numpy(end).to(actions) for end in (self.space.low, self.space.high))
        return actions.clamp(low, high)

    def _step(self, actions: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Step every running environment; which episodes terminated, and which were cut."""
        began = time.perf_counter()
        self._fail(~np.isfinite(actions.sum(1)), step, "the policy's action is not finite")
        rewards = np.zeros(len(self.running))
        terminated, truncated = (np.zeros(len(self.running), bool) for _ in range(2))
        for row, index in enumerate(self.running.tolist()):
            if index in self.failures:
                continue
            try:
                answer = _answer(self.shape, self.envs[index].step(actions[row]))
            except Exception as error:
                self._fail_row(row, step, f"the simulator failed ({error})")
                continue
            self.states[row], rewards[row] = answer.state, answer.reward
            terminated[row], truncated[row] = answer.terminated, answer.truncated
            self.cues[row] = answer.cue
            if answer.success is not None:
                self.successes[index] = answer.success
        wrong = self._check_finite(rewards, step)
        self.returns[self.running] += np.where(wrong, 0.0, rewards)
        self.clock.simulator_s += time.perf_counter() - began
        return terminated, truncated

    def _note(self, indices: Sequence[int]) -> None:
        for index in indices:
            self.courses[index].append(float(f"{self.returns[index]:.6g}"))

    def _check_finite(
        self, rewards: Float[np.ndarray, " running"], step: int
    ) -> Bool[np.ndarray, " running"]:
        wrong = ~(np.isfinite(self.states).all(1) & np.isfinite(rewards))
        self._fail(wrong, step, "the simulator returned a number that is not finite")
        return wrong

    def _check(self, ended: Bool[np.ndarray, " running"], step: int) -> None:
        envs = [self.envs[index] for index in self.running.tolist()]
        lost = np.array([end and diverged(env) for end, env in zip(ended, envs)])
        self._fail(lost, step, "the physics diverged and MuJoCo restarted it")

    def _fail(self, rows: Bool[np.ndarray, " running"], step: int, what: str) -> None:
        for row in np.flatnonzero(rows).tolist():
            self._fail_row(row, step, what)

    def _fail_row(self, row: int, step: int, what: str) -> None:
        index = int(self.running[row])
        spec = self.envs[index].spec
        name = spec.id if spec else type(self.envs[index]).__name__
        where = f"{name}, seed {self.seeds[index]}, step {step}"
        self.failures.setdefault(index, f"{where}: {what}")

    def _finish(self, ended: np.ndarray, terminated: np.ndarray, length: int) -> Iterator[Episode]:
        for row in np.flatnonzero(ended):
            index = int(self.running[row])
            failure = self.failures.get(index)
            yield Episode(
                seed=self.seeds[index],
                target=self.target,
                episode_return=float(self.returns[index]),
                length=length,
                terminated=bool(terminated[row]) and failure is None,
                failure=failure,
                place=index,
                success=self.successes.get(index),
                course=tuple(self.courses[index]),
            )
        self.running, self.states = self.running[~ended], self.states[~ended]
        self.cues = self.cues[~ended]

"""`transfer collect`: record data of a scripted expert, or of a behaviour policy trained for it.

Which, the environment decides. Policies are D4RL's: `expert` is the best checkpoint, `medium` the
first that reaches a fraction of its return, both sampling their actions; `medium-replay` is
everything seen in training until `medium`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console

from transfer.arguments import check_fields, typed
from transfer.envs.behaviour import Arrays, Recorder, deterministic_returns, record_episodes
from transfer.envs.d4rl import Dataset, read_d4rl, write_d4rl
from transfer.envs.datasets import read_dataset
from transfer.envs.environment import D4RL, Environment, env_id, env_name, environment, make_env
from transfer.envs.learner import Learner
from transfer.envs.scripted import Layout, checked_place, has_expert, play, write
from transfer.envs.training_run import Checkpoint, TrainingRun
from transfer.errors import UserError, check_at_least, check_unused, percent, resumable
from transfer.files import cache_folder, locked, remove_partial
from transfer.progress import bars, waiting
from transfer.provenance import command_line, versions

_EVAL_SEED = 20_000
_RECORD_SEED = 30_000
#: Episodes of experts have seeds from here on: evaluations and judging play those before.
EXPERT_SEED = 1_000_000
#: Characters of the longest bar of the curve.
_BAR = 40
_PACKAGES = ("gymnasium", "mujoco", "numpy")
_OF_EXPERT = ("episodes", "skilled", "format")
_OF_POLICY = (
    "steps", "eval_every", "eval_episodes", "medium_fraction", "medium_transitions",
    "expert_transitions",
)  # fmt: skip


@dataclass(frozen=True)
class CollectConfig:
    """Record data of an environment: of its scripted expert, or of a behaviour policy.

    hopper, halfcheetah and walker2d have none: a policy is trained, and medium, medium-replay and
    expert data are recorded in D4RL's layout.

    Attributes:
        out: where the data go: of an expert the .hdf5 file, or Minari's folder, whose name ends in
            -v and a number; of a policy: the folder of its files, by default of the environment's
            name within ~/.cache/transfer/d4rl; the training run is kept in its subfolder `run`.
        env: one with an expert, such as tmaze:length=100, or hopper, halfcheetah or walker2d.
        episodes: episodes of the expert; their seeds follow each other.
        skilled: share of the episodes that the expert plays rightly throughout; in the others each
            action that depends on something remembered is wrong with probability 1/2.
        format: d4rl, one flat file, or minari, a folder; of an expert's.
        env_version: v4 or v5; by default as --env says, or v4.
        steps: environment steps of training; a larger number continues a finished run.
        eval_every: steps between checkpoints.
        eval_episodes: deterministic episodes that judge a checkpoint.
        medium_fraction: share of the best checkpoint's return that makes a checkpoint `medium`.
        medium_transitions: steps of the medium file, at least.
        expert_transitions: steps of the expert file, at least.
        seed: seed of training and recording; by default 0; of an expert's first episode, by default
            1000000 and no less, since evaluations play the seeds from 0 on.
    """

    out: Path | None = None
    env: str = "hopper"
    episodes: int = 4000
    skilled: float = 0.85
    format: Layout = "d4rl"
    env_version: str | None = None
    steps: int = 300_000
    eval_every: int = 25_000
    eval_episodes: int = 5
    medium_fraction: float = 0.45
    medium_transitions: int = 100_000
    expert_transitions: int = 50_000
    seed: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_way()
        check_at_least(1, self, "episodes")
        if not 0 <= self.skilled <= 1:
            raise UserError(
                f"--skilled is {self.skilled}; use a share from 0 to 1{percent(self.skilled)}"
            )
        check_at_least(1, self, "steps", "eval_every", most=10**9)
        check_at_least(1, self, "medium_transitions", "expert_transitions", most=10**8)
        check_at_least(1, self, "eval_episodes")
        # The learner's own limit, with the seeds of episodes that follow it.
        check_at_least(0, self, "seed", most=10**9)
        if not 0 < self.medium_fraction <= 1:
            raise UserError(
                f"--medium-fraction is {self.medium_fraction}; use more than 0 and at most 1"
                f"{percent(self.medium_fraction)}"
            )

    def _check_way(self) -> None:
        """Refuse an environment that can be recorded in neither way, and options of the other."""
        found = environment(self.env, self.env_version)
        scripted = has_expert(found)
        if not scripted and found.name not in D4RL:
            # Policies are trained for actions from -1 to 1, in a simulator whose state is recorded.
            raise UserError(
                f"environment {self.env} has no method `expert`, and a policy is trained for "
                f"{', '.join(D4RL)} alone; name one of these or an environment with an expert"
            )
        if scripted and self.seed is not None and self.seed < EXPERT_SEED:
            raise UserError(
                f"--seed is {self.seed}, and evaluations play the episodes of seeds from 0 on; "
                f"use {EXPERT_SEED} or more for data"
            )
        whose = f"{self.env}, whose data are of {'its scripted expert' if scripted else 'a policy'}"
        check_unused(self, whose, *(_OF_POLICY if scripted else _OF_EXPERT))

    @property
    def run(self) -> TrainingRun:
        """The folder of checkpoints and recorded training steps."""
        settings = {"env": env_id(self.env, self.env_version), "seed": self.seed or 0}
        return TrainingRun(self.folder / "run", settings)

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self.out or cache_folder() / "d4rl" / env_name(self.env)


@typed
def collect(config: CollectConfig) -> list[Path]:
    """Record the expert's episodes; or train a policy, or continue, and write its three datasets.

    A training run that was stopped goes on from its last checkpoint when started again.

    Returns:
        The files, or the folder, written.

    Raises:
        UserError: sbx-rl is missing, or the run folder belongs to other settings.
    """
    console = Console(stderr=True)
    found = environment(config.env, config.env_version)
    if has_expert(found):
        return [_record_expert(config, found, console)]
    paths, checkpoints = _train_and_write(config)
    console.print(curve(checkpoints), highlight=False)
    for path in paths:
        console.print(_summary(path, read_d4rl(path), found), soft_wrap=True)
    return paths


def _record_expert(config: CollectConfig, env: Environment, console: Console) -> Path:
    """Record the episodes of an environment's expert, and say what they are."""
    out = checked_place(config.out, config.format)
    first = EXPERT_SEED if config.seed is None else config.seed
    seeds = range(first, first + config.episodes)
    with resumable("nothing was written; the same command begins anew"):
        episodes = play(env, seeds, config.skilled)
        with bars() as progress:
            played = list(progress.track(episodes, config.episodes, description="playing"))
        told = {"algorithm": "scripted expert"} | _told(config, env.title) | {"seed": first}
        write(out, config.format, env, played, told)
    console.print(_summary(out, read_dataset(out, env), env), soft_wrap=True)
    return out


def _train_and_write(config: CollectConfig) -> tuple[list[Path], list[Checkpoint]]:
    how = f"the same command goes on from the last checkpoint in {config.run.folder}"
    with locked(config.folder) as held, resumable(how):
        if held:
            remove_partial(config.run.folder)
        checkpoints = config.run.checkpoints()
        if not checkpoints or checkpoints[-1].steps < config.steps:
            checkpoints = _train(config, checkpoints)
        return write_datasets(config, checkpoints), checkpoints


def expert_checkpoint(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The best one; the later of equals."""
    return max(reversed(checkpoints), key=lambda one: one.eval_mean)


def medium_checkpoint(checkpoints: Sequence[Checkpoint], fraction: float) -> Checkpoint:
    """The first checkpoint that reaches `fraction` of the best one's return."""
    best = expert_checkpoint(checkpoints)
    enough = fraction * best.eval_mean
    return next((one for one in checkpoints if one.eval_mean >= enough), best)


def curve(checkpoints: Sequence[Checkpoint]) -> str:
    """The returns of all checkpoints as bars, a line each."""
    most = max(1.0, *(one.eval_mean for one in checkpoints))
    return "\n".join(
        f"{one.steps:>9,} steps {one.eval_mean:>7.0f} {'█' * round(_BAR * one.eval_mean / most)}"
        for one in checkpoints
    )


def write_datasets(config: CollectConfig, checkpoints: Sequence[Checkpoint]) -> list[Path]:
    """Write the medium, medium-replay and expert files of a trained run."""
    medium = medium_checkpoint(checkpoints, config.medium_fraction)
    stem = env_name(config.env)
    paths = [
        config.folder / f"{stem}_{kind}.hdf5" for kind in ("medium", "medium-replay", "expert")
    ]
    _write_rollouts(config, medium, config.medium_transitions, paths[0])
    replay = _finished(config.run.transitions(checkpoints, medium.steps))
    write_d4rl(paths[1], replay, _origin(config, medium))
    expert = expert_checkpoint(checkpoints)
    _write_rollouts(config, expert, config.expert_transitions, paths[2])
    return paths


def _write_rollouts(config: CollectConfig, one: Checkpoint, transitions: int, path: Path) -> None:
    policy = config.run.policy(one)
    env = make_env(config.env, config.env_version)
    with waiting(f"recording {path.name}"):
        arrays = record_episodes(policy, env, transitions, _RECORD_SEED + (config.seed or 0))
    env.close()
    write_d4rl(path, arrays, _origin(config, one) | policy.metadata())


def _origin(config: CollectConfig, one: Checkpoint) -> dict[str, np.generic | np.ndarray]:
    """What the file says of how it was made; the first two entries are D4RL's."""
    told = {"algorithm": "TQC", "iteration": one.steps}
    told |= _told(config, env_id(config.env, config.env_version))
    return {
        key: np.bytes_(value) if isinstance(value, str) else np.int32(value)
        for key, value in told.items()
    }


def _told(config: CollectConfig, title: str) -> dict[str, str | int]:
    """How data were made in the environment of a title."""
    packages = ", ".join(f"{name} {found}" for name, found in versions(_PACKAGES).items())
    return {
        "command": command_line("collect", replace(config, out=None)),
        "seed": config.seed or 0,
        "environment": title,
        "versions": packages,
    }


def _finished(arrays: Arrays) -> Arrays:
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"])
    count = int(ends[-1]) + 1 if len(ends) else 0
    return {key: values[:count] for key, values in arrays.items()}


def _summary(path: Path, dataset: Dataset, env: Environment) -> str:
    returns = np.array([trajectory.episode_return for trajectory in dataset.trajectories])
    scored = env.metric == "d4rl_score"
    mean, std, most = (
        f"{value:{'.0f' if scored else '.3g'}}"
        for value in (returns.mean(), returns.std(), returns.max())
    )
    score = f", D4RL score {env.score(returns.mean()):.1f}" if scored else ""
    return (
        f"{path}: {len(dataset):,} transitions, {len(returns)} episodes, return {mean} ± {std}"
        f" (max {most}){score}"
    )


def _train(config: CollectConfig, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    env = Recorder(make_env(config.env, config.env_version))
    judge = make_env(config.env, config.env_version)
    learner = Learner(env, max(config.steps, 10_000), config.seed or 0)
    done = checkpoints[-1].steps if checkpoints else 0
    if checkpoints:
        config.run.resume(learner, checkpoints)
    with bars() as progress:
        bar = progress.add_task("training", total=config.steps, completed=done)
        while done < config.steps:
            began = time.perf_counter()
            learner.learn(min(config.eval_every, config.steps - done))
            taken = env.take()
            done += len(taken["rewards"])
            seeds = range(_EVAL_SEED, _EVAL_SEED + config.eval_episodes)
            returns = deterministic_returns(learner.policy(), judge, seeds)
            seconds = time.perf_counter() - began
            one = _checkpoint(done, returns, taken, checkpoints, seconds)
            checkpoints = [*checkpoints, one]
            config.run.commit(learner, taken, checkpoints)
            progress.console.print(_line(one))
            progress.update(bar, completed=done)
    return checkpoints


def _checkpoint(
    steps: int,
    returns: np.ndarray,
    taken: Arrays,
    before: Sequence[Checkpoint],
    seconds: float,
) -> Checkpoint:
    ends = np.flatnonzero(taken["terminals"] | taken["timeouts"])
    spans = [taken["rewards"][start + 1 : end + 1].sum() for start, end in pairwise(ends)]
    spent = before[-1].seconds if before else 0.0
    return Checkpoint(
        steps=steps,
        eval_mean=float(returns.mean()),
        eval_std=float(returns.std()),
        train_mean=float(np.mean(spans[-20:])) if spans else None,
        seconds=round(spent + seconds, 1),
    )


def _line(one: Checkpoint) -> str:
    training = "none" if one.train_mean is None else f"{one.train_mean:.0f}"
    return (
        f"{one.steps:>8} steps: return {one.eval_mean:.0f} ± {one.eval_std:.0f},"
        f" last training episodes {training}, {one.seconds:.0f} s"
    )

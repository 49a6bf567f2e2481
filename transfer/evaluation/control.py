"""`transfer eval control`: what it is told. Nothing heavy is imported, because help reads it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from transfer.arguments import check_fields
from transfer.errors import (
    MOST_SEED,
    UserError,
    check_above_zero,
    check_at_least,
    check_finite,
)
from transfer.evaluation.options import (
    ContenderOptions,
    EvalConfig,
    RunOptions,
    name_once,
)

DEFAULT_BUDGET = 12
VIDEO_SUFFIXES = (".mp4", ".gif")

Remembered = Literal["window", "cache", "full"]


@dataclass(frozen=True)
class ControlEval(EvalConfig):
    """Roll out a Decision Transformer under several cache policies and report its scores.

    All of them play the same episode seeds. A first-in-first-out cache of the same size, fifo, runs
    beside the policies.

    Args:
        model: decision-transformer, the name of a shipped checkpoint, a folder, or a hub id;
            decision-transformer is the shipped one for --env and --quality.
        env: where it acts, such as hopper or tmaze:length=400: hopper, halfcheetah, walker2d,
            tmaze, gates, gates4, minigrid-memory, repeat-previous, autoencode, concentration, or
            any id of Gymnasium (package.module:Id-v0 where that module registers it); settings
            follow a colon, tmaze:length=400, and several settings are each run. By default what the
            model was trained for. Scored by success where the environment says it, by D4RL's where
            there are references, else by returns.
        quality: data that the model was trained on: mixed, medium, medium-replay or expert; by
            default mixed, where there is no such model medium-replay.
        state_statistics: JSON or .npz with state_mean and state_std, for a model without
            control.json.
        env_version: v4 or v5 of hopper, halfcheetah and walker2d, by default as --env says, or v4,
            which has the rewards of D4RL's environments; v5 differs in the last step's reward and
            in Walker2d's feet.
        memory: memories without a policy. window: the last K steps are encoded anew at every step,
            the published protocol; cache: incremental, as many tokens first-in-first-out; full:
            incremental, all tokens.
        episodes: episodes for each of --seeds.
        seeds: base seeds; episode i has seed base + i. Blocks that would overlap follow each other.
        target_return: returns to ask for; by default the model's highest.
        context: K, the steps that window re-encodes; by default what the model was trained with.
        scale: divisor of returns; by default what the model was trained with.
        delayed: rewards arrive at the end of an episode, so that the return-to-go stays; by default
            as the model was trained.
        noise: standard deviation of noise on the executed actions, in bursts; what was executed is
            in the model's history. The same noise for all.
        noise_every: steps from the beginning of one burst to the next.
        noise_length: steps of a burst.
        max_steps: episodes are cut here; by default the environment's horizon.
        num_envs: episodes that are played at once; of fewer --episodes, all. Another number changes
            the last bits of the actions, and so the returns; the same gives the same digits.
        video: film one more episode into an .mp4 or .gif file; with the first policy and seed.
        contenders: who is compared.
        place: where the model computes.
        run: how it is run.
    """

    kind: ClassVar[str] = "control"

    model: str
    env: tuple[str, ...] = ()
    quality: str | None = None
    state_statistics: Path | None = None
    env_version: Literal["v4", "v5"] | None = None
    memory: tuple[Remembered, ...] = ("window", "cache", "full")
    episodes: int = 20
    seeds: tuple[int, ...] = (0,)
    target_return: tuple[float, ...] = ()
    context: int | None = None
    scale: float | None = None
    delayed: bool | None = None
    noise: float = 0.0
    noise_every: int = 50
    noise_length: int = 5
    max_steps: int | None = None
    num_envs: int = 64
    video: Path | None = None
    contenders: ContenderOptions = field(
        default_factory=lambda: ContenderOptions(
            policy=("namm", "h2o"), budget=(DEFAULT_BUDGET,), update_interval=16
        )
    )
    # The models are so small that one thread is about the fastest.
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1), kw_only=True)

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(1, self, "episodes", "context", "max_steps", "noise_every", "noise_length")
        check_at_least(1, self, "num_envs", most=10_000)
        if not self.memory and not self.contenders.policy:
            raise UserError("neither a memory nor a policy was named; name at least one of either")
        for name in ("memory", "target_return", "env"):
            if getattr(self, name):
                name_once(self, name)
        self._check_numbers()
        if self.video is not None and self.video.suffix not in VIDEO_SUFFIXES:
            raise UserError(
                f"video {self.video} has none of the suffixes {' and '.join(VIDEO_SUFFIXES)}; "
                "rename it"
            )

    def _check_numbers(self) -> None:
        check_finite(self, "target_return")
        check_finite(self, "noise", least=0)
        check_above_zero(self, "scale")
        check_at_least(0, self, "seeds", most=MOST_SEED)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            given = " ".join(map(str, self.seeds)) or "none"
            raise UserError(f"seeds are {given}; use different whole numbers from 0 on")

    @property
    def episode_seeds(self) -> list[int]:
        """Seed of every episode, ascending: blocks of `episodes` that do not overlap."""
        seeds: list[int] = []
        for base in sorted(self.seeds):
            first = max(base, seeds[-1] + 1) if seeds else base
            seeds += range(first, first + self.episodes)
        return seeds

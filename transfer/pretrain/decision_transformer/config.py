"""What training a Decision Transformer can be told: the options of the command line."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from transfer.arguments import check_fields
from transfer.envs.environment import env_id, environment
from transfer.errors import (
    MOST_SEED,
    UserError,
    check_above_zero,
    check_at_least,
    check_finite,
)


@dataclass(frozen=True)
class PretrainConfig:
    """Train a Decision Transformer on D4RL-format data and keep the snapshot that acts best.

    Where actions are choices, it learns by cross-entropy which one was taken.

    Attributes:
        dataset: files in D4RL's layout, D4RL's names, or Minari datasets by folder or id; D4RL's
            names (hopper-medium-v2) are of files downloaded to ~/.d4rl/datasets.
        out: folder of the finished model.
        env: hopper, halfcheetah, walker2d, tmaze or any other, as of eval control.
        env_version: v4 or v5, of the environment that snapshots are judged in; by default as --env
            says, or v4.
        quality: what the data are called in the model's card.
        targets: returns to ask for; snapshots are compared at the first. By default those of the
            original: 3600 and 1800, for halfcheetah 12000 and 6000, for walker2d 5000 and 2500;
            for others their own.
        scale: divisor of returns.
        delayed: all reward at the end of an episode, in training and in judging.
        hidden: width of the model.
        layers: transformer blocks.
        heads: attention heads.
        context: K, steps per window.
        states: how they are embedded. linear: each number by weights of its own, the stock model;
            convolution: where an observation is one picture, of 36 x 36 or more, by three
            convolutions and a linear layer, as in Atari's Decision Transformers.
        whole_episodes: learn from whole episodes of any length instead of windows, and judge with
            the full cache. K is then only what `window` re-encodes.
        time: embedding of time steps. learned: a table of their numbers; none: no such embedding;
            stretched: the table, each episode at a random ascending part of it, so that it may be
            longer later.
        max_ep_len: rows of that table: steps of the longest episode, at which judged ones are cut.
        curriculum: with whole episodes, those of at most so many steps at first, then of the next
            number, up to the longest; half of the batches are of the longest allowed.
        competence: share of right actions over 20 batches at which the next length is allowed;
            where the data say which actions depend on something remembered, of those.
        normalise: states by the mean and standard deviation of the data, or not at all, since they
            would blow up what is rare and matters; by default none where actions are choices or
            pictures are convolved, whose numbers are from 0 to 1.
        dropout: of embeddings, attention and residual branches.
        batch: windows per step; of whole episodes about as many as have batch x context steps.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW.
        clip: largest norm of all gradients together.
        warmup: steps of linear warm-up, before the cosine.
        steps: optimiser steps.
        seed: seed of weights, batches and dropout.
        eval_every: steps between snapshots.
        eval_episodes: episodes that judge a snapshot.
        report_episodes: episodes per target in the card.
        bf16: bfloat16 autocast while training.
    """

    dataset: tuple[str, ...]
    out: Path
    env: str = "hopper"
    env_version: str | None = None
    quality: str = "mixed"
    targets: tuple[float, ...] = ()
    scale: float = 1000.0
    delayed: bool = False
    hidden: int = 128
    layers: int = 3
    heads: int = 1
    context: int = 20
    states: Literal["linear", "convolution"] = "linear"
    whole_episodes: bool = False
    time: Literal["learned", "none", "stretched"] = "learned"
    max_ep_len: int = 1000
    curriculum: tuple[int, ...] = ()
    competence: float = 0.95
    normalise: Literal["data", "none"] | None = None
    dropout: float = 0.1
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 0.25
    warmup: int = 200
    steps: int = 3600
    seed: int = 0
    eval_every: int = 300
    eval_episodes: int = 20
    report_episodes: int = 100
    bf16: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        env_id(self.env, self.env_version)
        if not self.dataset:
            raise UserError("no dataset was named; give --dataset one or more .hdf5 files")
        check_above_zero(self, "scale", "lr", "clip")
        check_above_zero(self, "competence", most=1)
        check_finite(self, "targets")
        check_finite(self, "weight_decay", least=0)
        check_at_least(0, self, "seed", most=MOST_SEED)
        check_at_least(0, self, "warmup")
        check_at_least(1, self, "layers", "heads", most=1000)
        check_at_least(1, self, "hidden", "context", most=10_000)
        check_at_least(1, self, "batch", "max_ep_len", "curriculum")
        check_at_least(1, self, "steps", "eval_every", most=10**8)
        check_at_least(1, self, "eval_episodes", "report_episodes", most=10_000)
        if not 0 <= self.dropout < 1:
            raise UserError(f"--dropout is {self.dropout}; use 0 or more and less than 1")
        if self.hidden % self.heads:
            raise UserError(
                f"--hidden {self.hidden} is no multiple of --heads {self.heads}; choose a multiple"
            )
        if not self.asked:
            raise UserError(f"{self.env} has no returns to ask for of its own; give --targets")
        self._check_curriculum()

    def _check_curriculum(self) -> None:
        lengths = " ".join(map(str, self.curriculum))
        if lengths and not self.whole_episodes:
            raise UserError(
                f"--curriculum is {lengths}, lengths of whole episodes; add --whole-episodes"
            )
        if any(one >= other for one, other in pairwise(self.curriculum)):
            raise UserError(f"--curriculum is {lengths}; name the lengths from short to long")
        if lengths and not environment(self.env).choices:
            raise UserError(
                f"--curriculum goes by which actions are right, and those of {self.env} are real "
                "numbers; leave it out"
            )

    @property
    def asked(self) -> tuple[float, ...]:
        """The target returns."""
        return self.targets or environment(self.env).targets

"""What training the video model can be told: its stages, and the options of the command line."""

from dataclasses import dataclass, replace
from pathlib import Path

from transfer.arguments import check_fields
from transfer.errors import MOST_SEED, check_above_zero, check_at_least


@dataclass(frozen=True)
class Stage:
    """Some steps on videos of some lengths.

    Attributes:
        frames: of a video, one of these at random in each step.
        steps: optimiser steps.
        videos: of each length, to draw from; of those that are mixed, of `FRAMES` frames.
        tokens: video tokens in a step, about.
        questions: tokens of the questions about a video that are asked after it, at most.
        letters: share of the questions whose options have letters.
        ahead: share of the videos that have a question ahead of them too.
        looks_ahead: weight of where is looked for a question asked ahead, beside one asked after.
        mixes: whether new videos are put together of the frames of those for every step.
        hard: how many times as many questions of the `HARD` kinds as of another are asked.
    """

    frames: tuple[int, ...]
    steps: int
    videos: int
    tokens: int = 4096
    questions: int = 256
    letters: float = 0.3
    ahead: float = 0.5
    looks_ahead: float = 1.0
    mixes: bool = False
    hard: float = 1.0


STAGES = (
    Stage((8,), 300, 1500, tokens=3072, questions=176, letters=0.0),
    Stage((8, 16), 500, 1500, tokens=3072, questions=256, letters=0.4),
    Stage((16, 32), 400, 1000, letters=0.5, ahead=0.75),
    Stage(
        (8, 16, 32, 32, 64, 128),
        1300,
        1500,
        questions=160,
        letters=0.45,
        ahead=0.75,
        looks_ahead=10.0,
        mixes=True,
        hard=3.0,
    ),
    Stage(
        (8, 16, 32, 32, 64, 128, 128),
        1200,
        1500,
        questions=160,
        letters=0.5,
        ahead=0.75,
        looks_ahead=10.0,
        mixes=True,
        hard=3.0,
    ),
)


@dataclass(frozen=True)
class VideoPretrainConfig:
    """Train a small LLaVA-NeXT-Video that answers questions about videos.

    Attributes:
        out: folder of the finished model.
        seed: seed of weights and videos.
        scale: multiplies the steps of every stage and its videos.
        lr: peak learning rate of AdamW.
        before_weight: weight of the question asked before a video, beside one asked after it.
        save_every: steps between two saved states.
        report_videos: held-out videos for each table of the card, a question of every kind to
            each; of the long ones a quarter.
    """

    out: Path
    seed: int = 0
    scale: float = 1.0
    lr: float = 1.5e-3
    before_weight: float = 10.0
    save_every: int = 200
    report_videos: int = 160

    def __post_init__(self) -> None:
        check_fields(self)
        # From 33 up a stage would need the seeds of the next length.
        check_above_zero(self, "scale", most=30)
        check_above_zero(self, "lr", "before_weight")
        check_at_least(1, self, "save_every", "report_videos")
        check_at_least(0, self, "seed", most=MOST_SEED)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of this run."""
        return tuple(
            replace(stage, steps=self.scaled(stage.steps), videos=self.scaled(stage.videos))
            for stage in STAGES
        )

    def scaled(self, number: int) -> int:
        """So many steps or videos in this run."""
        return max(1, round(number * self.scale))

"""`transfer inspect`: what a policy keeps of one video, one episode or one text, drawn.

Nothing heavy is imported before it runs, because the command line reads `InspectConfig` for its
help.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from transfer.adapters.placement import Placement
from transfer.arguments import check_fields
from transfer.errors import MOST_SEED, MOST_TOKENS, UserError, check_at_least
from transfer.evaluation.options import ContenderOptions
from transfer.namm.config import DEFAULT_NAMM


def _check_picture(policy: str, out: Path, *more: str) -> None:
    if policy == "all":
        raise UserError("policy is all and a picture shows one; name one policy")
    if out.suffix not in (".png", *more):
        raise UserError(f"out {out} is no {' or '.join(('.png', *more))} file; rename it")


@dataclass(frozen=True)
class InspectControl:
    """Draw which steps of an episode each layer and head holds, at every step of it.

    Args:
        model: decision-transformer, a shipped one, a folder, or a hub id.
        env: as `transfer eval control` takes it; by default what the model was trained for.
        policy: who prunes the cache, oracle too; one, as a picture shows one.
        namm: NAMM of the policy namm: a shipped name, a folder or a hub id.
        budget: tokens each head keeps, or a fraction (0.25) of the tokens seen. None: the policy's
            own threshold, where it has one.
        update_interval: tokens between two evictions.
        eviction: exact, or the original implementation's rule.
        seed: of the episode.
        max_steps: the episode is cut here; by default at the environment's horizon.
        out: the picture.
        place: where the model computes.
    """

    model: str
    env: str | None = None
    policy: str = "namm"
    namm: str = DEFAULT_NAMM
    budget: int | float | None = 24
    update_interval: int = 16
    eviction: Literal["exact", "reference"] = "exact"
    seed: int = 0
    max_steps: int | None = None
    out: Path = Path("kept.png")
    place: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(1, self, "update_interval", "max_steps")
        check_at_least(0, self, "seed", most=MOST_SEED)
        ContenderOptions(budget=(self.budget,))
        _check_picture(self.policy, self.out)


@dataclass(frozen=True)
class InspectLanguage:
    """Colour a text by what each layer and head of a pruned cache keeps of it, over time.

    Args:
        model: a shipped or fetched language model, a folder or a hub id.
        text: a file; by default some prose, and for models of symbols a document of them.
        policy: who prunes the cache; one, as a page shows one.
        namm: NAMM of the policy namm: a shipped name, a folder or a hub id.
        budget: tokens each head keeps, or a fraction (0.25) of the tokens seen. None: the policy's
            own threshold, where it has one.
        update_interval: tokens between two evictions.
        eviction: exact, or the original implementation's rule.
        length: tokens of the text that are read at most.
        trust_remote_code: run the Python that a model from outside brings.
        out: a page (.html) that goes through time and heads, or a picture of the end (.png).
        place: where the model computes.
    """

    model: str
    text: Path | None = None
    policy: str = "namm"
    namm: str = DEFAULT_NAMM
    budget: int | float | None = 0.25
    update_interval: int = 32
    eviction: Literal["exact", "reference"] = "exact"
    length: int = 512
    trust_remote_code: bool = False
    out: Path = Path("kept.html")
    place: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(1, self, "update_interval", "length", most=MOST_TOKENS)
        _check_picture(self.policy, self.out, ".html")
        ContenderOptions(budget=(self.budget,))

    @property
    def contenders(self) -> ContenderOptions:
        """Who prunes."""
        return ContenderOptions(
            policy=(self.policy,),
            namm=(self.namm,),
            budget=(self.budget,),
            update_interval=self.update_interval,
            eviction=self.eviction,
        )


@dataclass(frozen=True)
class InspectCues:
    """Say how well a policy could tell the steps to remember, by attention or by keys.

    Args:
        model: decision-transformer, a shipped one, a folder, or a hub id.
        env: as `transfer eval control` takes it, one that says what has to be remembered; by
            default what the model was trained for.
        episodes: that are played, all at once, with the full cache.
        update_interval: tokens between two looks.
        seed: of the first episode.
        max_steps: episodes are cut here; by default at the environment's horizon.
        place: where the model computes.
    """

    model: str
    env: str | None = None
    episodes: int = 40
    update_interval: int = 16
    seed: int = 0
    max_steps: int | None = None
    place: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(1, self, "update_interval", "max_steps")
        check_at_least(1, self, "episodes", most=10_000)
        check_at_least(0, self, "seed", most=MOST_SEED)


@dataclass(frozen=True)
class InspectConfig:
    """Draw which frames and patches of a video each layer and head of a pruned cache keeps.

    Args:
        video: a video file, or a folder of frames.
        model: llava-next-video (the shipped one), a folder of a video model, or a hub id.
        question: asked after the video; the reply is printed.
        policy: who prunes the cache; one, as a picture shows one.
        namm: NAMM of the policy namm: a shipped name, a folder or a hub id.
        budget: tokens each head keeps, or a fraction (0.25) of the tokens seen. None: the policy's
            own threshold, where it has one.
        update_interval: tokens between two evictions.
        eviction: exact, or the original implementation's rule.
        frames: of the video, evenly spread, or all where there are fewer; by default 32.
        stream: number of the video stream in the file, as ffprobe counts; by default the one it
            marks as the default, of several the largest.
        trust_remote_code: run the Python that a model from outside brings.
        out: the picture.
        place: where the model computes.
    """

    video: Path
    model: str = "llava-next-video"
    question: str = ""
    policy: str = "namm"
    namm: str = DEFAULT_NAMM
    budget: int | float | None = 0.25
    update_interval: int = 64
    eviction: Literal["exact", "reference"] = "exact"
    frames: int | None = None
    stream: int | None = None
    trust_remote_code: bool = False
    out: Path = Path("kept.png")
    place: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(1, self, "frames", "update_interval")
        check_at_least(0, self, "stream")
        ContenderOptions(budget=(self.budget,))
        _check_picture(self.policy, self.out)

"""`transfer eval` for control: a Decision Transformer under several cache policies, side by side.

All protocols play the same episode seeds, so that they are compared pair by pair. Nothing heavy is
imported before a run starts, because the command line reads `ControlEval` for its help.
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from transfer.errors import SimulationError, UserError
from transfer.evaluation.results import Results
from transfer.provenance import command_line, versions

MODEL = "decision-transformer"
DEFAULT_ENV = "hopper"
DEFAULT_POLICIES = ("namm", "h2o")
DEFAULT_NAMM = "recall"
DEFAULT_BUDGET = 12
VIDEO_SUFFIXES = (".mp4", ".gif")

_OF_NOISE = ("noise_every", "noise_length")
#: Settings that change no result.
FREE = ("out", "video", "json")

Memory = Literal["window", "cache", "full"]


@dataclass(frozen=True)
class ControlEval:
    """Roll out a Decision Transformer under several cache policies and report D4RL scores.

    Args:
        model: decision-transformer (the shipped one for --env and --quality), the name of a shipped
            checkpoint, or a folder.
        env: hopper, halfcheetah or walker2d; by default what the model was trained for.
        quality: data that the shipped model was trained on; by default mixed, where there is no
            such model medium-replay.
        env_version: v4 has the rewards of D4RL's environments; v5 differs in the last step's reward
            and in Walker2d's feet.
        memory: protocols without a policy. window: the last K steps are encoded anew at every step,
            the published protocol; cache: incremental, as many tokens first-in-first-out; full:
            incremental, all tokens.
        policy: who prunes the cache to --budget: namm, h2o, h2o_age, snapkv, tova, fastgen,
            l2_norm, recency or random; `all`: every one. A first-in-first-out cache of the same
            size, fifo, runs beside it. All protocols play the same episode seeds.
        namm: NAMMs of the policy namm: shipped names, folders or hub ids.
        budget: tokens each head keeps, or a fraction (0.25) of the tokens seen. None: the policy's
            own threshold, where it has one.
        equal_bytes: rules get as many tokens as fit into the bytes of the first NAMM at --budget,
            which keeps more for each token, instead of the same number; fifo does not.
        update_interval: tokens between two evictions; a step is 3 tokens.
        eviction: exact, or the original implementation's rule.
        episodes: episodes for each of --seeds.
        seeds: base seeds; episode i has seed base + i. Blocks that would overlap follow each other.
        target_return: returns to ask for; by default the model's highest.
        context: K, the steps that window re-encodes; by default what the model was trained with.
        scale: divisor of returns; by default what the model was trained with.
        delayed: rewards arrive at the end of an episode, so that the return-to-go stays; by default
            as the model was trained.
        noise: standard deviation of noise on the executed actions, in bursts; what was executed is
            in the model's history. The same noise for all protocols.
        noise_every: steps from the beginning of one burst to the next.
        noise_length: steps of a burst.
        max_steps: episodes are cut here.
        num_envs: environments that run at once. Another number changes the last bits of the
            actions, and so the returns; the same number gives the same digits.
        threads: CPU threads of the model, which is so small that one is about the fastest.
        out: folder for results.json, summary.csv and rows.jsonl. A run that was stopped there is
            resumed, to the same numbers.
        video: film one more episode, with the first policy and seed, into an .mp4 or .gif file.
    """

    model: str
    env: str | None = None
    quality: Literal["mixed", "medium", "medium-replay", "expert"] | None = None
    env_version: Literal["v4", "v5"] = "v4"
    memory: tuple[Memory, ...] = ("window", "cache", "full")
    policy: tuple[str, ...] = DEFAULT_POLICIES
    namm: tuple[str, ...] = (DEFAULT_NAMM,)
    budget: int | float | None = DEFAULT_BUDGET
    equal_bytes: bool = False
    update_interval: int = 16
    eviction: Literal["exact", "reference"] = "exact"
    episodes: int = 20
    seeds: tuple[int, ...] = (0,)
    target_return: tuple[float, ...] = ()
    context: int | None = None
    scale: float | None = None
    delayed: bool | None = None
    noise: float = 0.0
    noise_every: int = 50
    noise_length: int = 5
    max_steps: int = 1000
    num_envs: int = 64
    threads: int = 1
    out: Path | None = None
    video: Path | None = None

    def __post_init__(self) -> None:
        for name in ("episodes", "context", "max_steps", "num_envs", "threads", *_OF_NOISE):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name.replace('_', '-')} is {value}; use 1 or more")
        if not self.memory and not self.policy:
            raise UserError("neither a memory nor a policy was named; name at least one of either")
        self._check_numbers()
        if self.video is not None and self.video.suffix not in VIDEO_SUFFIXES:
            raise UserError(
                f"video {self.video} has none of the suffixes {' and '.join(VIDEO_SUFFIXES)}; "
                "rename it"
            )

    def _check_numbers(self) -> None:
        for target in self.target_return:
            if not math.isfinite(target):
                raise UserError(f"target return is {target}; use a finite number")
        if not 0 <= self.noise < math.inf:
            raise UserError(f"noise is {self.noise}; use a standard deviation of 0 or more")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise UserError(f"scale is {self.scale}; use a number above 0")
        if len(set(self.target_return)) < len(self.target_return):
            raise UserError("a target return is named twice; name each once")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            given = " ".join(map(str, self.seeds)) or "none"
            raise UserError(f"seeds are {given}; use different whole numbers from 0 on")
        if isinstance(self.budget, float) and not 0 < self.budget <= 1:
            raise UserError(
                f"budget {self.budget} is not a fraction; "
                "use a number above 0 and up to 1, or a whole number of tokens"
            )
        if self.budget is not None and self.budget < 1 and isinstance(self.budget, int):
            raise UserError(f"budget {self.budget} keeps nothing; use 1 token or more")

    @property
    def model_name(self) -> str:
        """Name or folder of the checkpoint."""
        from transfer.adapters.control_names import control_model
        from transfer.envs.environment import env_name

        if self.model != MODEL:
            return self.model
        env = env_name(self.env or DEFAULT_ENV)
        return f"{MODEL}-{env}-{self.quality}" if self.quality else str(control_model(env))

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the results, as it is written beside them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if name not in FREE}

    @property
    def episode_seeds(self) -> list[int]:
        """Seed of every episode, ascending: blocks of `episodes` that do not overlap."""
        seeds: list[int] = []
        for base in sorted(self.seeds):
            first = max(base, seeds[-1] + 1) if seeds else base
            seeds += range(first, first + self.episodes)
        return seeds


def evaluate_control(config: ControlEval) -> Results:
    """Play all episodes of all protocols and summarise them.

    Ctrl-C ends the run early: the episodes that had ended are summarised and written, and the
    results say `interrupted`.

    An episode whose simulator breaks down ends there; it is marked, and is in no mean.

    Raises:
        UserError: unknown model, environment or policy, a setting the model cannot follow, or an
            output that cannot be written; raised before the first episode.
        SimulationError: every episode of a protocol broke down.
    """
    from transfer.evaluation.blocks import BlockFolder
    from transfer.evaluation.control_run import ControlBlock, Run
    from transfer.evaluation.control_summary import summarise
    from transfer.evaluation.threads import torch_threads

    run = Run(config)
    with (
        BlockFolder(config.out, run.settings, ControlBlock) as folder,
        torch_threads(config.threads),
    ):
        interrupted = run.play(folder)
        results = Results(
            command=command_line("eval", config),
            versions=versions(env=run.env_id),
            seeds=config.episode_seeds,
            summary=summarise(run.rows, run.seconds),
            rows=run.rows,
            interrupted=interrupted,
        )
        folder.finish(results)
    played = {row["protocol"] for row in run.rows if not row["failure"]}
    for row in run.rows:
        if row["protocol"] not in played:
            raise SimulationError(f"every episode of {row['protocol']} failed; {row['failure']}")
    return results

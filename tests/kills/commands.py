"""The long commands of `transfer`, small enough that one run takes seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.envs import collect
from transfer.envs.behaviour import LAYERS, Recorder, TanhGaussian
from transfer.envs.d4rl import write_d4rl
from transfer.envs.learner import Learner

OUT, DATA = "out", "data.hdf5"


@dataclass(frozen=True)
class Command:
    """A command that writes into the folder `OUT` of the folder in which it runs.

    Attributes:
        name: of it here.
        words: after `transfer`, both of the first run and of the one that goes on.
        differing: files that a run which was stopped has otherwise, by parts of their names, and
            why that is right.
        setup: called in the process before the command.
    """

    name: str
    words: str
    differing: tuple[str, ...] = ()
    setup: Callable[[], None] = lambda: None


class StandIn(Learner):
    """In place of sbx's: acts at random, and its policy is one of the steps it has seen."""

    def __init__(self, env: Recorder, steps: int, seed: int) -> None:
        self._env, self._rng, self._steps = env, np.random.default_rng(seed), 0
        env.reset(seed=seed)

    def learn(self, steps: int) -> None:
        """Act."""
        for _ in range(steps):
            *_, terminated, truncated, _ = self._env.step(
                self._rng.uniform(-1, 1, 3).astype(np.float32)
            )
            if terminated or truncated:
                self._env.reset()
        self._steps += steps

    def policy(self) -> TanhGaussian:
        """A random one."""
        rng, weights = np.random.default_rng(self._steps), {}
        for layer, shape in zip(LAYERS, [(16, 11), (16, 16), (3, 16), (3, 16)]):
            weights[f"{layer}/weight"] = (0.3 * rng.normal(size=shape)).astype(np.float32)
            weights[f"{layer}/bias"] = (0.3 * rng.normal(size=shape[0])).astype(np.float32)
        return TanhGaussian(weights)

    def save(self, path: Path) -> None:
        """The number of steps."""
        path.write_text(str(self._steps))

    def restore(self, path: Path, recorded: object) -> None:
        """Go on from there."""
        self._steps = int(path.read_text())


def use_stand_in() -> None:
    """Of `transfer collect` all but the learner is tried, which needs an extra."""
    collect.Learner = StandIn


def write_data(path: Path, episodes: int = 6, length: int = 30) -> None:
    """Recorded episodes of Hopper's sizes, of noise."""
    rng, count = np.random.default_rng(0), episodes * length
    arrays = {
        "observations": rng.normal(size=(count, 11)),
        "actions": rng.uniform(-1, 1, (count, 3)),
        "rewards": rng.normal(size=count),
        "terminals": np.arange(count) % length == length - 1,
        "timeouts": np.zeros(count, bool),
    }
    write_d4rl(path, arrays)


_EVAL = "--budget 0.25 --threads 1 --out out"
COMMANDS = (
    Command(
        "eval language",
        "eval language --model llama-recall --task recall passkey --documents 12 --batch 2"
        f" --policy namm h2o recency {_EVAL}",
    ),
    Command(
        "eval control",
        "eval control --model decision-transformer-hopper-medium --episodes 6 --num-envs 2"
        f" --max-steps 25 --memory window full --policy h2o {_EVAL}",
    ),
    Command(
        "eval video",
        f"eval video --model llava-next-video --questions 16 --policy h2o {_EVAL}",
    ),
    Command(
        "evolve",
        "evolve --out out --resume --tasks recall --generations 6 --seeds 0 1 --population 4"
        " --hidden 3 --documents 2 --lengths 96 --budget 12 24 --update-interval 16 32"
        " --validate-every 3 --validation-documents 4",
    ),
    Command(
        "pretrain recall",
        "pretrain recall --out out --scale 0.01 --longest 64 --tokens 256 --save-every 3"
        " --report-documents 2",
    ),
    Command(
        "pretrain decision-transformer",
        f"pretrain decision-transformer --out out --dataset {DATA} --hidden 32 --layers 1"
        " --context 5 --steps 60 --eval-every 10 --eval-episodes 1 --report-episodes 1"
        " --no-bf16",
    ),
    Command(
        "pretrain video-llava",
        "pretrain video-llava --out out --scale 0.002 --save-every 1 --report-videos 1",
    ),
    Command(
        "collect",
        "collect --out out --steps 2000 --eval-every 200 --eval-episodes 2"
        " --medium-transitions 1000 --expert-transitions 1000",
        # The episode that was under way ends there as a timeout, which is documented.
        ("replay", "checkpoints.json"),
        use_stand_in,
    ),
)

"""What measuring candidates gives, and what it took."""

import time
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from transfer.cache.cache import PrunedCache
from transfer.cache.window import AttentionWindow
from transfer.policies.namm import NAMMPolicy

PerDocument = Float[np.ndarray, "candidates documents"]


@dataclass(frozen=True)
class Seconds:
    """Wall time of a worker, by what it was spent on; `features` includes eviction."""

    model: float = 0.0
    features: float = 0.0
    scoring: float = 0.0
    simulator: float = 0.0

    @classmethod
    def split(
        cls, total: float, cache: PrunedCache, scoring: "Watch", simulator: float = 0.0
    ) -> "Seconds":
        """Of a model whose cache was pruned, `total` without the simulator."""
        policy = cache.policy_seconds()
        return cls(total - policy, policy - scoring.seconds, scoring.seconds, simulator)

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(
            self.model + other.model,
            self.features + other.features,
            self.scoring + other.scoring,
            self.simulator + other.simulator,
        )


@dataclass(frozen=True)
class Measured:
    """What became of the candidates (one row for the full cache).

    Attributes:
        probability: mean probability of an answer; in control the return over the target.
        log_likelihood: mean over all tokens but the first, in nats; in control 0.
        kept: tokens held at the end over tokens read, mean over layers and heads.
        seconds: what it took.
    """

    probability: PerDocument
    log_likelihood: PerDocument
    kept: PerDocument
    seconds: Seconds


@dataclass
class Watch:
    """Adds up the seconds of its `with` blocks."""

    seconds: float = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self._began


@dataclass(frozen=True)
class TimedPolicy(NAMMPolicy):
    """A NAMM as a policy, and how long it scores.

    Attributes:
        watch: its time.
    """

    watch: Watch = field(default_factory=Watch)

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens size"]]:
        """Scores of the NAMM."""
        with self.watch:
            return super().score(window, state)

"""What measuring candidates gives, and what it took."""

import time
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from transfer.namm.network import NAMM

TimedT = TypeVar("TimedT", bound="TimedNAMM")
PerDocument = Float[np.ndarray, "candidates documents"]


@dataclass(frozen=True)
class Seconds:
    """Wall time of a worker, by what it was spent on; `features` includes eviction."""

    model: float = 0.0
    features: float = 0.0
    scoring: float = 0.0
    simulator: float = 0.0

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


class TimedNAMM(NAMM):
    """A NAMM that knows how long it took."""

    seconds = 0.0

    @classmethod
    def of(cls: type[TimedT], namm: NAMM) -> TimedT:
        """The same, with a watch."""
        return cls(namm.config, namm.vector, namm.mean, namm.std)

    def score(
        self, features: Float[Tensor, "sequences tokens size"], age: Int[Tensor, "sequences tokens"]
    ) -> Float[Tensor, "sequences tokens"]:
        """As a NAMM does."""
        began = time.perf_counter()
        scores = super().score(features, age)
        self.seconds += time.perf_counter() - began
        return scores

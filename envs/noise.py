"""Noise in the history: bursts in which the executed actions are not those that were chosen.

What is disturbed stays in the model's context as if it had been meant. Forgetting it should help.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transfer.arguments import check_fields
from transfer.errors import UserError, check_at_least

_STREAM = 7


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on the actions of some steps, the same for a seed whoever acts.

    Attributes:
        std: its standard deviation, in units of the action.
        every: steps from the beginning of one burst to the next; the first is after as many.
        length: steps of a burst.
    """

    std: float
    every: int = 50
    length: int = 5

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.std < math.inf:
            raise UserError(f"noise is {self.std}; use a standard deviation of 0 or more")
        check_at_least(1, self, "every", "length")

    def disturbs(self, step: int) -> bool:
        """Whether a step lies in a burst."""
        return step >= self.every and step % self.every < self.length

    def added(
        self,
        actions: Float[Tensor, "episodes action"],
        seeds: Sequence[int],
        step: int,
    ) -> Float[Tensor, "episodes action"]:
        """The actions with this step's noise."""
        if not self.disturbs(step):
            return actions
        size = actions.shape[1]
        drawn = np.stack(
            [np.random.default_rng([seed, step, _STREAM]).normal(size=size) for seed in seeds]
        )
        return actions + self.std * torch.from_numpy(drawn).to(actions)

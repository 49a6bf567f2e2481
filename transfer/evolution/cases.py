"""Which documents are read under which setting: fresh ones each generation, held-out ones."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from transfer.evolution.config import EvolveConfig
from transfer.tasks.base import FIRST_TRAINING_SEED

#: Seeds below are for reports; then come those of validation, then those of fitness.
FIRST_VALIDATION_SEED = 2**31
FIRST_FITNESS_SEED = 2**32


@dataclass(frozen=True)
class Case:
    """Documents of one task, for one model, pruned in one way.

    Attributes:
        model: its name.
        task: its name.
        length: tokens of each document.
        seeds: of the documents.
        budget: tokens or share each head keeps; None: the NAMM's threshold.
        n_up: tokens between two updates.
        eviction: `exact` or `reference`.
    """

    model: str
    task: str
    length: int
    seeds: tuple[int, ...]
    budget: int | float | None
    n_up: int
    eviction: str

    def as_json(self) -> dict[str, Any]:
        """What the ledger says of it."""
        return asdict(self) | {"seeds": list(self.seeds)}


def fitness_cases(config: EvolveConfig, seed: int, generation: int) -> list[Case]:
    """The minibatch of a generation, the same for all its candidates: one case a model and task."""
    rng = np.random.default_rng([seed, generation])
    return [
        Case(
            model,
            task,
            length=_drawn(rng, config.lengths),
            seeds=tuple(
                rng.integers(FIRST_FITNESS_SEED, FIRST_TRAINING_SEED, config.documents).tolist()
            ),
            budget=_drawn(rng, config.budgets or (None,)),
            n_up=_drawn(rng, config.intervals),
            eviction=config.eviction,
        )
        for model in config.models
        for task in config.tasks
    ]


def _drawn(rng: np.random.Generator, values: tuple[Any, ...]) -> Any:
    return values[rng.integers(len(values))]


def validation_cases(config: EvolveConfig) -> list[Case]:
    """The held-out documents of a run; every length, budget and interval has its turn."""
    kinds = max(len(config.lengths), len(config.budgets), len(config.intervals))
    return [
        _validation_case(config, model, task, kind, kinds)
        for model in config.models
        for task in config.tasks
        for kind in range(min(kinds, config.validation_documents))
    ]


def _validation_case(config: EvolveConfig, model: str, task: str, kind: int, kinds: int) -> Case:
    budgets = config.budgets or (None,)
    last = FIRST_VALIDATION_SEED + config.validation_documents
    return Case(
        model,
        task,
        length=config.lengths[kind % len(config.lengths)],
        seeds=tuple(range(FIRST_VALIDATION_SEED + kind, last, kinds)),
        budget=budgets[kind % len(budgets)],
        n_up=config.intervals[kind % len(config.intervals)],
        eviction=config.eviction,
    )

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
    """Documents or episodes of one task, for one model, pruned in one way.

    Attributes:
        model: its name.
        task: its name.
        length: tokens of each document, or the most steps of an episode.
        seeds: of the documents or episodes.
        budget: tokens or share each head keeps; None: the NAMM's threshold.
        update_interval: tokens between two updates.
        eviction: `exact` or `reference`.
        share: who shares the budget, see `Pruning`.
    """

    model: str
    task: str
    length: int
    seeds: tuple[int, ...]
    budget: int | float | None
    update_interval: int
    eviction: str
    share: str = "head"

    def as_json(self) -> dict[str, Any]:
        """What the ledger says of it."""
        return asdict(self) | {"seeds": list(self.seeds)}


def fitness_cases(config: EvolveConfig, seed: int, generation: int) -> list[Case]:
    """The minibatch of a generation, the same for all its candidates: one case a model and task."""
    rng = np.random.default_rng([seed, generation])
    documents = [(model, task) for model in config.models for task in config.language_tasks]
    return [
        *(_fresh(config, rng, *each, config.lengths, config.documents) for each in documents),
        *(
            _fresh(config, rng, model, task, (config.max_steps,), config.episodes)
            for task, model in config.controls.items()
        ),
    ]


def _fresh(
    config: EvolveConfig,
    rng: np.random.Generator,
    model: str,
    task: str,
    lengths: tuple[int, ...],
    count: int,
) -> Case:
    return Case(
        model,
        task,
        length=_drawn(rng, lengths),
        seeds=tuple(rng.integers(FIRST_FITNESS_SEED, FIRST_TRAINING_SEED, count).tolist()),
        budget=_drawn(rng, config.budget or (None,)),
        update_interval=_drawn(rng, config.update_interval),
        eviction=config.eviction,
        share=_drawn(rng, config.share),
    )


def _drawn(rng: np.random.Generator, values: tuple[Any, ...]) -> Any:
    # (Of a single value numpy draws nothing, so an option more leaves other draws as they were.)
    return values[rng.integers(len(values))]


def validation_cases(config: EvolveConfig) -> list[Case]:
    """The held-out documents of a run; every length, budget and interval has its turn."""
    documents = [(model, task) for model in config.models for task in config.language_tasks]
    return [
        case
        for cases in (
            *(
                _held_out(config, *each, config.lengths, config.validation_documents)
                for each in documents
            ),
            *(
                _held_out(config, model, task, (config.max_steps,), config.validation_episodes)
                for task, model in config.controls.items()
            ),
        )
        for case in cases
    ]


def _held_out(
    config: EvolveConfig, model: str, task: str, lengths: tuple[int, ...], count: int
) -> list[Case]:
    budgets = config.budget or (None,)
    kinds = max(len(lengths), len(budgets), len(config.update_interval), len(config.share))
    return [
        Case(
            model,
            task,
            length=lengths[kind % len(lengths)],
            seeds=tuple(range(FIRST_VALIDATION_SEED + kind, FIRST_VALIDATION_SEED + count, kinds)),
            budget=budgets[kind % len(budgets)],
            update_interval=config.update_interval[kind % len(config.update_interval)],
            eviction=config.eviction,
            share=config.share[kind % len(config.share)],
        )
        for kind in range(min(kinds, count))
    ]

"""Fitness on records of `transfer record`: how much less a candidate costs than a window does.

A generation replays a few records, drawn over the folders, each under a budget and an interval of
its own, the same for all candidates. Each counts the logarithm of a candidate's cost over that of
attention sinks and a recent window (StreamingLLM) in its place, so that no model and no modality
outweighs another. Against the mean of the population, or against the NAMM that a search began with,
what all of them solve would weigh as much as what breaks a model.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from transfer.cache.policy import Policy, Pruning
from transfer.errors import UserError
from transfer.evolution.config import EvolveConfig
from transfer.evolution.genome import Genome
from transfer.evolution.measured import Seconds, TimedPolicy, Watch
from transfer.evolution.search import Vector
from transfer.policies.recency import Recency
from transfer.replay.cost import Costs, improvement, replayed
from transfer.replay.records import Record, read_records
from transfer.workers.base import Engine

#: Of a record at most so many layers are replayed in a case, evenly spaced; for a slope, which
#: takes longer, at most so many.
LAYERS, SLOPE_LAYERS = 6, 3
#: A budget in tokens is drawn for records that have 2 to 40 times as many.
LEAST_TIMES, MOST_TIMES = 2, 40
#: An interval is drawn for records that have 4 times as many tokens, and windows twice as many.
_UPDATES = 4
#: Each tenth generation draws four times as many cases, and so ranks better.
_OFTEN, _MORE = 10, 4


@dataclass(frozen=True)
class ReplayCase:
    """Some sequences of a record, pruned in one way.

    Attributes:
        record: its file.
        layers: that are replayed.
        rows: the sequences.
        budget: tokens or share each head keeps; None: the NAMM's threshold.
        update_interval: tokens between two updates.
        eviction: `exact` or `reference`.
        share: who shares the budget, see `Pruning`.
    """

    record: str
    layers: tuple[int, ...]
    rows: tuple[int, ...]
    budget: int | float | None
    update_interval: int
    eviction: str
    share: str

    def as_json(self) -> dict[str, Any]:
        """What the ledger says of it."""
        return {**asdict(self), "record": "/".join(Path(self.record).parts[-2:])}


@dataclass(frozen=True)
class ReplayJob:
    """Some candidates on a case; without candidates, the window."""

    case: ReplayCase
    genome: Genome
    vectors: Float[np.ndarray, "candidates size"] | None


@dataclass(frozen=True)
class Replayed:
    """Candidates on replayed cases, which all count equally.

    Attributes:
        fitness: of each candidate.
        kept: share of the tokens kept at the end.
        seconds: of the workers, added up.
        slope: of the fitness, where it was asked for.
    """

    fitness: Float[np.ndarray, " population"]
    kept: Float[np.ndarray, " population"]
    seconds: Seconds
    slope: Vector | None = None

    @property
    def ranks(self) -> Float[np.ndarray, " population"]:
        """What a search is told: the fitness, as all cases are of one size."""
        return self.fitness


def replay_cases(config: EvolveConfig, seed: int, generation: int) -> list[ReplayCase]:
    """What a generation replays: the folders take turns."""
    rng = np.random.default_rng([seed, generation])
    count = config.records * (_MORE if (generation + 1) % _OFTEN == 0 else 1)
    first, folders = generation * config.records, config.replay
    layers = SLOPE_LAYERS if config.search == "climb" else LAYERS
    return [_drawn(config, rng, folders[(first + n) % len(folders)], layers) for n in range(count)]


def held_out_cases(config: EvolveConfig) -> list[ReplayCase]:
    """The held-out records of a run, the same throughout."""
    rng = np.random.default_rng(0)
    count = _MORE * config.records
    folders = config.held_out
    return [
        _drawn(config, rng, folders[n % len(folders)], LAYERS)
        for n in range(count if folders else 0)
    ]


def _drawn(config: EvolveConfig, rng: np.random.Generator, folder: Path, layers: int) -> ReplayCase:
    records = read_records(folder)
    record = records[rng.integers(len(records))]
    about, stride = record.about, -(-len(record.layers) // layers)
    rows = min(about.rows, max(1, config.rows // (config.population + 1)))
    return ReplayCase(
        str(record.path),
        layers=tuple(record.layers[rng.integers(stride) :: stride]),
        rows=tuple(sorted(rng.choice(about.rows, rows, replace=False).tolist())),
        budget=_one(rng, fitting_budgets(config.budget, record)),
        update_interval=_one(rng, fitting_intervals(config.update_interval, record)),
        eviction=config.eviction,
        share=_one(rng, config.share),
    )


def check_records(config: EvolveConfig) -> None:
    """Refuse folders without records, and records that no budget or interval suits.

    Raises:
        UserError: the first of them.
    """
    for folder in (*config.replay, *config.held_out):
        for record in read_records(folder):
            fitting_budgets(config.budget, record)
            fitting_intervals(config.update_interval, record)


def fitting_budgets(budgets: Sequence[int | float], record: Record) -> list[int | float]:
    """Those under which something has to leave a record, and something can stay.

    Raises:
        UserError: none is.
    """
    tokens, seen = record.about.tokens, _attended(record)
    fit = [
        budget
        for budget in budgets
        if (
            LEAST_TIMES * budget <= seen <= MOST_TIMES * budget
            if isinstance(budget, int)
            else seen == tokens or LEAST_TIMES * budget * tokens <= seen
        )
    ]
    if not fit:
        least, most = -(-seen // MOST_TIMES), seen // LEAST_TIMES
        raise UserError(
            f"no --budget suits {record.path}, whose sequences have {tokens} tokens that attend to "
            f"{seen} at most; add a size from {least} to {most}"
            + (", or a fraction" if seen == tokens else "")
        )
    return fit


def fitting_intervals(intervals: Sequence[int], record: Record) -> list[int]:
    """Those under which a record is pruned a few times.

    Raises:
        UserError: none is.
    """
    tokens, seen = record.about.tokens, _attended(record)
    most = min(tokens // _UPDATES, seen // LEAST_TIMES)
    if min(intervals) > most:
        raise UserError(
            f"no --update-interval suits {record.path}, whose sequences have {tokens} tokens that "
            f"attend to {seen} at most; add one of at most {most}, or leave the record out"
        )
    return [one for one in intervals if one <= most]


def _attended(record: Record) -> int:
    """Tokens that the last one of a record attends to."""
    return min(record.about.tokens, record.about.window or record.about.tokens)


def _one(rng: np.random.Generator, values: Sequence[Any]) -> Any:
    return values[int(rng.integers(len(values)))]


def evaluate_replay(
    engine: Engine,
    genome: Genome,
    vectors: Float[np.ndarray, "population size"],
    cases: Sequence[ReplayCase],
    rows: int,
) -> Replayed:
    """Replay all cases for all candidates.

    Args:
        engine: does it.
        genome: what the vectors mean.
        vectors: the candidates.
        cases: the records and settings.
        rows: sequences that are replayed at once, candidates times those of a case.
    """
    cuts = [_cut(case, genome, vectors.astype(np.float32), rows) for case in cases]
    found = iter(engine.map("replay", [job for jobs in cuts for job in jobs]))
    fitness, kept, seconds = [], [], Seconds()
    for jobs in cuts:
        parts = [next(found) for _ in jobs]
        costs = joined([part for part, _ in parts])
        fitness.append(improvement(costs)[1:])
        kept.append(costs.kept[1:])
        seconds = sum((spent for _, spent in parts), seconds)
    return Replayed(np.mean(fitness, 0), np.mean(kept, 0), seconds)


def _cut(
    case: ReplayCase, genome: Genome, vectors: Float[np.ndarray, "population size"], rows: int
) -> list[ReplayJob]:
    """The window, then the candidates."""
    together = max(1, rows // len(case.rows)) if genome.together else 1
    parts = [vectors[first : first + together] for first in range(0, len(vectors), together)]
    return [ReplayJob(case, genome, part) for part in (None, *parts)]


def joined(parts: Sequence[Costs]) -> Costs:
    """Those of all candidates, in order."""
    loss, outputs, kept = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("loss", "outputs", "kept")
    )
    return Costs(loss, outputs, kept, sum(part.policy_seconds for part in parts))


def replay(job: ReplayJob, device: str) -> tuple[Costs, Seconds]:
    """What a worker does: replay a job's case."""
    began, case, watch = time.perf_counter(), job.case, Watch()
    policy: Policy = Recency()
    if job.vectors is not None:
        policy = TimedPolicy(job.genome.namm(job.vectors), watch)
    pruning = Pruning(policy, case.update_interval, case.budget, case.eviction, share=case.share)
    population = 1 if job.vectors is None else len(job.vectors)
    record, rows = Record(Path(case.record)), list(case.rows)
    costs = replayed(record, case.layers, rows, pruning, population, device)
    spent = time.perf_counter() - began
    parts = spent - costs.policy_seconds, costs.policy_seconds - watch.seconds, watch.seconds
    return costs, Seconds(*parts)

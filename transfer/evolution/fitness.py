"""The fitness of a population on a minibatch.

Candidates ride in the batch axis: one forward pass reads the documents once for each of several
candidates, each row pruned by its own NAMM. On one thread of a CPU, 16 candidates on 1, 2, 4, 8 and
16 documents of 256 tokens, for a model of the shipped shape, are measured 4.3, 3.0, 2.0, 1.4 and
1.2 times as fast as one after the other. A pass holds at most `rows` sequences. How jobs are cut
does not depend on the engine, so neither do the numbers.

What comes before the first update is the same for all candidates, and is read by each: once for all
would save 5 to 13 % at 512 tokens and an interval of 64 (SmolLM2, `llama-recall`), a third at 256,
and other last digits, as products of matrices round by their shapes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from transfer.evolution.cases import Case
from transfer.evolution.evaluator import MeasureJob
from transfer.evolution.genome import Genome
from transfer.evolution.measured import Measured, Seconds
from transfer.workers.base import Engine

PerCandidate = Float[np.ndarray, " population"]


@dataclass(frozen=True)
class Weights:
    """What fitness is made of, beside the answer probability beyond the full cache's.

    Attributes:
        keep_cost: times the kept fraction is taken off.
        likelihood: times the log-likelihood beyond the full cache's is added.
    """

    keep_cost: float
    likelihood: float


@dataclass(frozen=True)
class Evaluation:
    """A population on a minibatch; means over its cases, which all count equally.

    Attributes:
        fitness: of each candidate; NaN where the model's output was.
        ranks: from 0, the worst of all cases, to 1, the best of all; what a search is told, as no
            case then weighs more because its numbers differ more.
        probability: answer probability minus the full cache's.
        likelihood: log-likelihood of all tokens minus the full cache's, in nats.
        kept: fraction of the tokens kept at the end.
        seconds: of the workers, added up.
    """

    fitness: PerCandidate
    ranks: PerCandidate
    probability: PerCandidate
    likelihood: PerCandidate
    kept: PerCandidate
    seconds: Seconds


def evaluate(
    engine: Engine,
    genome: Genome,
    vectors: Float[np.ndarray, "population size"],
    cases: Sequence[Case],
    weights: Weights,
    rows: int,
) -> Evaluation:
    """Measure all candidates on the same documents, and the full cache once.

    Args:
        engine: does it.
        genome: what the vectors mean.
        vectors: the candidates.
        cases: the documents and settings.
        weights: of the parts of fitness.
        rows: sequences in one forward pass.
    """
    cuts = [list(_cut(case, genome, vectors, rows)) for case in cases]
    measured = iter(engine.map("measure", [job for jobs in cuts for job in jobs]))
    probability, likelihood, kept = (np.zeros((len(cases), len(vectors))) for _ in range(3))
    seconds = Seconds()
    for number, jobs in enumerate(cuts):
        full, pruned = _joined(jobs, [next(measured) for _ in jobs])
        probability[number] = (pruned.probability - full.probability).mean(1)
        likelihood[number] = (pruned.log_likelihood - full.log_likelihood).mean(1)
        kept[number] = pruned.kept.mean(1)
        seconds += full.seconds + pruned.seconds
    fitness = probability + weights.likelihood * likelihood - weights.keep_cost * kept
    return Evaluation(
        fitness=fitness.mean(0),
        ranks=_ranks(fitness).mean(0),
        probability=probability.mean(0),
        likelihood=likelihood.mean(0),
        kept=kept.mean(0),
        seconds=seconds,
    )


def _ranks(fitness: Float[np.ndarray, "cases population"]) -> Float[np.ndarray, "cases population"]:
    """The share of the others that a candidate beats, halves for equals; NaN for NaN."""
    others = fitness[:, None, :]
    beaten = (fitness[..., None] > others) + 0.5 * (fitness[..., None] == others)
    most = max(fitness.shape[1] - 1, 1)
    return np.where(np.isnan(fitness), np.nan, (beaten.sum(-1) - 0.5) / most)


def _cut(
    case: Case, genome: Genome, vectors: Float[np.ndarray, "population size"], rows: int
) -> Iterator[MeasureJob]:
    """The jobs of a case: piece by piece of its documents the full cache, then the candidates."""
    exact = vectors.astype(np.float32)
    for first in range(0, len(case.seeds), rows):
        piece = replace(case, seeds=case.seeds[first : first + rows])
        yield MeasureJob(piece, genome, None)
        together = max(1, rows // len(piece.seeds)) if genome.together else 1
        for start in range(0, len(exact), together):
            yield MeasureJob(piece, genome, exact[start : start + together])


def _joined(jobs: Sequence[MeasureJob], measured: Sequence[Measured]) -> tuple[Measured, Measured]:
    """Full cache and population of a whole case, from the pieces of `_cut`."""
    full: list[Measured] = []
    pruned: list[list[Measured]] = []
    for job, part in zip(jobs, measured):
        if job.vectors is None:
            full.append(part)
            pruned.append([])
        else:
            pruned[-1].append(part)
    return _concatenated(full, 1), _concatenated([_concatenated(part, 0) for part in pruned], 1)


def _concatenated(parts: Sequence[Measured], axis: int) -> Measured:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts], axis)

    seconds = sum((part.seconds for part in parts), Seconds())
    return Measured(joined("probability"), joined("log_likelihood"), joined("kept"), seconds)

"""The slope of fitness on records: which way a NAMM's parameters should go.

Scores decide who stays, and `transfer.replay.worth` says what each token was worth. Near the cut a
token's chance to stay is taken to rise smoothly with its score, and what is climbed is the worth of
all that stay. As many stay as before, so only differences of worth count.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transfer.cache.policy import Pruning
from transfer.evolution.genome import Genome
from transfer.evolution.measured import Seconds
from transfer.evolution.replay import ReplayCase, Replayed, joined
from transfer.evolution.search import Vector
from transfer.policies.namm import NAMMPolicy
from transfer.policies.recency import Recency
from transfer.replay.cost import Costs, improvement, prices, replayed
from transfer.replay.records import Record
from transfer.replay.worth import Update, worth
from transfer.workers.base import Engine

#: How far around the cut a score counts, in standard deviations of the scores.
_WIDTH = 0.3
_SMALLEST_STD = 1e-3
#: No case counts for more than a slope of this length.
_STEEPEST = 3.0


@dataclass(frozen=True)
class SlopeJob:
    """A NAMM on a case."""

    case: ReplayCase
    genome: Genome
    vector: Vector


def climbing(
    engine: Engine, genome: Genome, vector: Vector, cases: Sequence[ReplayCase]
) -> Replayed:
    """Replay all cases for one candidate, for its fitness and the slope of that."""
    found = engine.map("slope", [SlopeJob(case, genome, vector) for case in cases])
    total, seconds = np.zeros_like(vector), Seconds()
    for _, spent, steep in found:
        total += steep * min(1.0, _STEEPEST / max(float(np.linalg.norm(steep)), 1e-12))
        seconds += spent
    fitness = np.mean([improvement(costs)[1:] for costs, _, _ in found], 0)
    kept = np.mean([costs.kept[1:] for costs, _, _ in found], 0)
    # (In the precision of the ledger, from which a search is resumed.)
    return Replayed(fitness, kept, seconds, (total / len(cases)).astype(np.float32).astype(float))


def slope(job: SlopeJob, device: str) -> tuple[Costs, Seconds, Vector]:
    """What a worker does.

    Returns:
        Costs of the window, then of the NAMM; the time; and the slope of the NAMM's improvement.
    """
    began, case = time.perf_counter(), job.case
    namm = job.genome.namm(job.vector[None])
    settings = case.update_interval, case.budget, case.eviction
    pruning = Pruning(NAMMPolicy(namm), *settings, share=case.share)
    window = Pruning(Recency(), *settings, share=case.share)
    record, rows = Record(Path(case.record)), list(case.rows)
    found = [
        worth(record.layer(index, rows, device), index, record.about, pruning)
        for index in case.layers
    ]
    own = Costs(
        np.array([sum(each.loss for each in found)]),
        np.array([sum(each.outputs for each in found)]),
        np.array([np.mean([each.kept for each in found])]),
        0.0,
    )
    costs = joined([replayed(record, case.layers, rows, window, 1, device), own])
    vector = namm.vector.to(device).requires_grad_()
    climbed = torch.zeros((), device=device)
    for update in (update for each in found for update in each.updates):
        scores = namm.scored(update.inputs, vector)
        climbed = climbed + _climbed(scores, update, prices(costs), case, len(rows))
    [steep] = torch.autograd.grad(climbed, vector) if climbed.requires_grad else [vector * 0]
    seconds = Seconds(model=time.perf_counter() - began)
    return costs, seconds, steep[0].double().numpy(force=True)


def _climbed(
    scores: Float[Tensor, "rows tokens"],
    update: Update,
    price: tuple[float, float],
    case: ReplayCase,
    sequences: int,
) -> Float[Tensor, ""]:
    """Worth of what stays, as a smooth function of the scores."""
    value = price[0] * update.loss + price[1] * update.outputs
    parts = scores, value, update.kept, update.valid
    if case.share != "head":
        # The cut is that of all heads of a layer.
        parts = tuple(part.reshape(sequences, -1) for part in parts)
    scores, value, kept, valid = parts
    some = (valid & ~kept).any(1) & kept.any(1)
    scores, value, kept, valid = (part[some] for part in (scores, value, kept, valid))
    fixed = scores.detach()
    count, most = kept.sum(1, keepdim=True), scores.shape[1] - 1
    ranked = fixed.masked_fill(~valid, -torch.inf).sort(1, descending=True).values
    cut = (ranked.gather(1, count - 1) + ranked.gather(1, count.clamp(max=most))) / 2
    number = valid.sum(1, keepdim=True)
    centred = (fixed - (fixed * valid).sum(1, keepdim=True) / number) * valid
    std = (centred.square().sum(1, keepdim=True) / number).sqrt().clamp(min=_SMALLEST_STD)
    chance = ((scores - cut) / (_WIDTH * std)).sigmoid() * valid
    # What all tokens at the cut are worth together is won and lost by the same move of the cut.
    near = (chance * (1 - chance)).detach()
    common = (near * value).sum(1, keepdim=True) / near.sum(1, keepdim=True).clamp(min=1e-9)
    return ((value - common) * chance).sum()

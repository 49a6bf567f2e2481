"""What a pruned cache costs on a record: how far attention outputs move, and how much that matters.

For the change D of a layer's attention outputs and the gradient g of what the model was asked, the
cost is the sum over tokens of (g D)^2, the square of the first-order change; beside it stands the
squared change of the outputs relative to their square, which needs no gradient. Both are summed
over layers: a mean of their logarithms would not see the one layer that lost its attention sink.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.replay.recording import LayerStates, within
from transfer.replay.records import Record

#: Of the two costs, in an improvement.
_WEIGHTS = (0.7, 0.3)
#: Share of what is compared with that is added to all costs, so that a case which somebody solves
#: to the last digit does not outweigh all others.
_FLOOR = 0.05


@dataclass(frozen=True)
class Costs:
    """Of each candidate, summed over layers and sequences.

    Attributes:
        loss: squared first-order changes of the objective, in units of the record.
        outputs: squared changes of the attention outputs, each layer's over its squared outputs.
        kept: share of the tokens held at the end, mean over layers and heads.
        policy_seconds: time spent observing, scoring and evicting.
    """

    loss: Float[np.ndarray, " population"]
    outputs: Float[np.ndarray, " population"]
    kept: Float[np.ndarray, " population"]
    policy_seconds: float


@torch.no_grad()
def replayed(
    record: Record,
    layers: Iterable[int],
    rows: list[int],
    pruning: Pruning,
    population: int = 1,
    device: str = "cpu",
) -> Costs:
    """Prune a record's layers.

    Args:
        record: of which.
        layers: indices of those that are replayed.
        rows: the sequences.
        pruning: with a policy of `population` candidates, each of which prunes all sequences.
        population: how many.
        device: where it is computed.
    """
    parts = [
        _layer(record.layer(index, rows, device), index, record, pruning, population)
        for index in layers
    ]
    return Costs(
        np.sum([part.loss for part in parts], 0),
        np.sum([part.outputs for part in parts], 0),
        np.mean([part.kept for part in parts], 0),
        sum(part.policy_seconds for part in parts),
    )


def _layer(
    states: LayerStates, index: int, record: Record, pruning: Pruning, population: int
) -> Costs:
    window = record.about.window
    whole = unpruned(states, window)
    layer = PrunedLayer(pruning, index)
    layer.first = record.about.first
    query, key, value = (
        _repeated(part, population) for part in (states.query, states.key, states.value)
    )
    out = layer.attend(query, key, value, None, states.scale)
    change = out.unflatten(0, (population, -1)) - whole
    held = torch.tensor(layer.kept()).unflatten(0, (population, -1))
    if window is None:
        # (Else rounding would be compared with rounding.)
        change[held.eq(states.query.shape[2]).all(-1)] = 0
    moved = (change * states.gradient).sum((2, 4)).square().sum((1, 2))
    share = change.square().sum((1, 2, 3, 4)) / whole.square().sum()
    kept = held.flatten(1).double().mean(1).numpy() / states.query.shape[2]
    loss, outputs = (x.double().numpy(force=True) for x in (moved, share))
    return Costs(loss, outputs, kept, layer.policy_seconds)


def unpruned(
    states: LayerStates, window: int | None
) -> Float[Tensor, "rows heads tokens value_dim"]:
    """Outputs of the layer as it was recorded."""
    mask = within(window, states.query.shape[2])
    return scaled_dot_product_attention(
        states.query,
        states.key,
        states.value,
        None if mask is None else mask.to(states.query.device),
        is_causal=mask is None,
        scale=states.scale,
        enable_gqa=True,
    )


def _repeated(
    states: Float[Tensor, "rows heads tokens dim"], population: int
) -> Float[Tensor, "candidates heads tokens dim"]:
    """Every sequence for the first candidate, then for the next."""
    return states.repeat(population, 1, 1, 1)


def improvement(costs: Costs) -> Float[np.ndarray, " population"]:
    """How much lower than the first one's each candidate's cost is, as a logarithm."""
    found = np.zeros_like(costs.loss)
    for weight, cost in zip(_WEIGHTS, (costs.loss, costs.outputs)):
        # Where the first costs nothing, nothing had to leave.
        if cost[0] > 0:
            found -= weight * np.log((cost / cost[0] + _FLOOR) / (1 + _FLOOR))
    return found


def prices(costs: Costs) -> tuple[float, float]:
    """How fast the last one's `improvement` falls with its cost in loss, and in outputs."""
    loss, outputs = (
        weight / (cost[-1] + _FLOOR * cost[0]) if cost[0] > 0 else 0.0
        for weight, cost in zip(_WEIGHTS, (costs.loss, costs.outputs))
    )
    return loss, outputs

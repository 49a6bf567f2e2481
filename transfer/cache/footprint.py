"""How many bytes a pruned layer holds, from shapes alone: the layout of `PrunedLayer` as a sum."""

from dataclasses import dataclass

import torch

from transfer.cache.policy import Pruning
from transfer.cache.queries import STRIDE

_POSITION, _BOUNDS = 4, 16


@dataclass(frozen=True)
class LayerShape:
    """What one attention layer caches.

    Attributes:
        batch: sequences.
        heads, kv_heads: query heads and KV heads.
        dim: of a key, and of a value.
        dtype: of the model.
    """

    batch: int
    heads: int
    kv_heads: int
    dim: int
    dtype: torch.dtype

    def full_bytes(self, tokens: int) -> int:
        """Keys and values of so many tokens in every head."""
        return self.batch * self.kv_heads * tokens * 2 * self.dim * self.dtype.itemsize


@dataclass(frozen=True)
class Footprint:
    """Bytes of one layer.

    Attributes:
        tokens: keys, values and positions, free slots included.
        state: of the policy, and the newest queries.
    """

    tokens: int
    state: int

    @property
    def total(self) -> int:
        """Both."""
        return self.tokens + self.state


def held(shape: LayerShape, pruning: Pruning, seen: int) -> Footprint:
    """What a layer holds after a prompt of `seen` tokens, heads keeping what the budget says.

    Equal to what `PrunedLayer.bytes` measures after one call with the whole prompt.
    """
    late = seen % pruning.n_up
    kept = _kept(pruning, seen - late)
    room = _slack(pruning) if not late else max(_slack(pruning) - late, 0)
    observed = late if late >= STRIDE and pruning.policy.reads_attention else 0
    return _footprint(shape, pruning, kept + late, room, kept + observed)


def peak(shape: LayerShape, pruning: Pruning, seen: int) -> Footprint:
    """The most it held on the way: what was kept before the last whole window, and that window."""
    last = seen - seen % pruning.n_up
    if not last:
        return held(shape, pruning, seen)
    kept = _kept(pruning, last - pruning.n_up)
    tokens = kept + pruning.n_up
    # A window brings as many tokens as rows have free slots, or makes room for all of them.
    window = _footprint(
        shape, pruning, tokens, 0, tokens if pruning.policy.reads_attention else kept
    )
    return max(window, held(shape, pruning, seen), key=lambda footprint: footprint.total)


def _kept(pruning: Pruning, seen: int) -> int:
    budget = pruning.tokens(seen)
    return seen if budget is None else min(seen, budget)


def _slack(pruning: Pruning) -> int:
    return min(pruning.n_up, STRIDE)


def _footprint(
    shape: LayerShape, pruning: Pruning, tokens: int, room: int, observed: int
) -> Footprint:
    rows, each, policy = shape.batch * shape.kv_heads, shape.dtype.itemsize, pruning.policy
    exact = max(4, each)
    slots = rows * (tokens + room) * (2 * shape.dim * each + _POSITION) + rows * _BOUNDS
    small = policy.half_state and each == 2
    state = rows * observed * policy.state_size * (2 if small else exact)
    queries = 0
    if pruning.reads_attention:
        remembered = pruning.looks_back + min(STRIDE, pruning.n_up)
        queries = shape.batch * shape.heads * remembered * (shape.dim * each + exact)
    return Footprint(slots, state + queries)

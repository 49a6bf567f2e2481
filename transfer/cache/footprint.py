"""How many bytes a pruned layer holds, from shapes alone: the layout of `PrunedLayer` as a sum."""

from dataclasses import dataclass

import torch
from transformers import DynamicCache, PreTrainedConfig

from transfer.cache.packed import ROOM, SLACK
from transfer.cache.policy import Depth, Policy, Pruning
from transfer.cache.stock import LEFT_ALONE

_POSITION, _BOUNDS = 4, 16


@dataclass(frozen=True)
class LayerShape:
    """What one attention layer caches.

    Attributes:
        batch: sequences.
        heads, kv_heads: query heads and KV heads.
        dim: of a key.
        dtype: of the model.
        value_dim: of a value; None: as of a key.
        layers: how many like it are pruned.
    """

    batch: int
    heads: int
    kv_heads: int
    dim: int
    dtype: torch.dtype
    value_dim: int | None = None
    layers: int = 1

    @property
    def width(self) -> int:
        """Numbers in a key and a value together."""
        return self.dim + (self.dim if self.value_dim is None else self.value_dim)

    @classmethod
    def of(
        cls, config: PreTrainedConfig, dtype: torch.dtype, batch: int = 1, ranks: int = 1
    ) -> "LayerShape":
        """A layer of a text decoder, its heads shared out over `ranks` processes."""
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        kinds = map(type, DynamicCache(config=config).layers)
        layers = sum(kind not in LEFT_ALONE for kind in kinds)
        return cls(batch, heads // ranks, kv_heads // ranks, dim, dtype, layers=layers)

    def full_bytes(self, tokens: int) -> int:
        """Keys and values of so many tokens in every head."""
        return self.batch * self.kv_heads * tokens * self.width * self.dtype.itemsize


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


def held(shape: LayerShape, pruning: Pruning, seen: int, depth: Depth | None = None) -> Footprint:
    """What a layer holds after a prompt of `seen` tokens, heads keeping what the budget says.

    Without a depth it is what layers hold on average.

    Equal to what `PrunedLayer.bytes` measures after one call with the whole prompt.
    """
    late = seen % pruning.interval
    kept = _kept(pruning, seen - late, depth)
    observed = late if late >= pruning.stride and pruning.policy.reads_attention else 0
    return _footprint(shape, pruning, kept + late, _room(pruning, seen), kept + observed)


def held_next(
    shape: LayerShape, pruning: Pruning, seen: int, depth: Depth | None = None
) -> Footprint:
    """What a layer holds after a prompt of `seen` tokens in one call, and one token more."""
    before, late = seen % pruning.interval, (seen + 1) % pruning.interval
    kept = _kept(pruning, seen + 1 - late, depth)
    shown = before if late and before >= pruning.stride else 0
    if late - shown >= pruning.stride:
        shown = late
    slack = min(pruning.interval, SLACK)
    spare = _room(pruning, seen) - 1
    room = (spare if 0 <= spare <= 2 * slack else slack - 1) if late else slack
    observed = shown if pruning.policy.reads_attention else 0
    return _footprint(shape, pruning, kept + late, room, kept + observed)


def peak(shape: LayerShape, pruning: Pruning, seen: int, depth: Depth | None = None) -> Footprint:
    """The most it held on the way: what was kept before a whole window, and that window.

    It is the last, unless the budget of one layer falls while that of another grows.
    """
    ends = range(pruning.interval, seen + 1, pruning.interval)
    steps = [held(shape, pruning, seen, depth)]
    alike = depth is None or type(pruning.policy).layer_budget is Policy.layer_budget
    for end in ends[-1:] if alike else ends:
        kept = _kept(pruning, end - pruning.interval, depth)
        tokens = kept + pruning.interval
        observed = tokens if pruning.policy.reads_attention else kept
        steps += [
            held(shape, pruning, end, depth),
            _footprint(shape, pruning, tokens, 0, observed),
        ]
    return max(steps, key=lambda step: step.total)


def _room(pruning: Pruning, seen: int) -> int:
    """Free slots of a row: some after an update, few once few tokens come at a time."""
    late, slack = seen % pruning.interval, min(pruning.interval, SLACK)
    room = min(pruning.interval, ROOM)
    if seen < pruning.interval or late > room:
        return max(slack - late, 0)
    few = 0 < late <= slack and room - late > 2 * slack
    return (slack if few else room) - late


def _kept(pruning: Pruning, seen: int, depth: Depth | None) -> int:
    budget = pruning.tokens(seen, depth)
    return seen if budget is None else min(seen, budget)


def _footprint(
    shape: LayerShape, pruning: Pruning, tokens: int, room: int, observed: int
) -> Footprint:
    rows, each, policy = shape.batch * shape.kv_heads, shape.dtype.itemsize, pruning.policy
    exact = max(4, each)
    slots = rows * (tokens + room) * (shape.width * each + _POSITION) + rows * _BOUNDS
    number = policy.state_dtype(shape.dtype).itemsize
    state = rows * observed * policy.state_size * number
    queries = 0
    if pruning.reads_attention:
        remembered = pruning.carried + pruning.stride
        queries = shape.batch * shape.heads * remembered * (shape.dim * each + exact)
    return Footprint(slots, state + queries)

"""Layers of the shapes that are measured, with a cache that is already long."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache

from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.namm.network import NAMM
from transfer.policies import get_policy

#: Kept by each of eight heads: 25 % on average, far from even.
UNEVEN = (0.05, 0.08, 0.12, 0.16, 0.22, 0.32, 0.45, 0.60)
WINDOW = 512


@dataclass(frozen=True)
class Shape:
    """Of one attention layer: KV heads, query heads for each of them, their size."""

    name: str
    kv_heads: int
    groups: int
    dim: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def keys(self, tokens: int) -> Tensor:
        """Random keys (or values) of so many tokens."""
        return self._normal(self.kv_heads, tokens)

    def queries(self, tokens: int) -> Tensor:
        """Random queries, for attention that is neither flat nor a single peak."""
        return 1.5 * self._normal(self.kv_heads * self.groups, tokens)

    def _normal(self, heads: int, tokens: int) -> Tensor:
        return torch.randn(1, heads, tokens, self.dim, dtype=self.dtype, device=self.device)


TOY = Shape("toy", 8, 1, 64)
LLAMA_8B = Shape("Llama 8B", 8, 4, 128)
LLAMA_70B = Shape("Llama 70B", 8, 8, 128)


def with_dtype(shape: Shape, dtype: torch.dtype) -> Shape:
    """The same shape in another type."""
    return replace(shape, dtype=dtype)


def stock_cache(key: Tensor, value: Tensor) -> DynamicCache:
    """transformers' own cache, holding these."""
    cache = DynamicCache()
    cache.update(key, value, 0)
    return cache


def pruned_layer(
    key: Tensor,
    value: Tensor,
    pruning: Pruning,
    shares: Sequence[float] = (1.0,) * 8,
    index: int = 0,
) -> PrunedLayer:
    """A layer that went through these tokens and is at an update, the next window still to come.

    Args:
        key, value: of the tokens.
        pruning: its settings.
        shares: what each KV head kept, at random.
        index: of the layer.
    """
    layer = PrunedLayer(pruning, index)
    layer.lazy_initialization(key, value)
    store = layer.store
    assert store is not None
    tokens = key.shape[2]
    store.append(key, value, [0], None)
    pass_by(layer, tokens)
    kept = torch.zeros(key.shape[:3], dtype=torch.bool)
    for head, share in enumerate(shares):
        kept[0, head, torch.randperm(tokens)[: int(share * tokens)]] = True
    state = torch.rand(*key.shape[:3], store.state.shape[-1], device=key.device)
    store.keep(kept.to(key.device), state, WINDOW)
    return layer


def pass_by(layer: PrunedLayer, tokens: int) -> None:
    """Count so many more tokens of its one sequence."""
    assert layer.now is not None
    layer.now.columns = layer.now.columns.followed_by(tokens, None)
    layer.now.counts = [layer.now.counts[0] + tokens]


def namm_pruning(update_interval: int = WINDOW, budget: float | None = None) -> Pruning:
    """The shipped NAMM."""
    return Pruning(get_policy("namm", namm=NAMM.from_pretrained("recall")), update_interval, budget)


def full_pruning() -> Pruning:
    """Nothing is read, nothing leaves."""
    return Pruning(get_policy("full"), WINDOW)

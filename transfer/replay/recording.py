"""Takes down queries, keys and values of a model's layers, and the gradient of their outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from transfer.attachment.adapter import Adapter
from transfer.cache.cache import PrunedCache
from transfer.cache.footprint import LayerShape
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.policies.full import Full

#: Must not contain sdpa, flash or flex, see `transfer.cache.attention`.
_IMPLEMENTATION = "transfer_recording"
_RECORDER = "transfer_recorder"


@dataclass(frozen=True)
class LayerStates:
    """What one layer's attention saw of some sequences, and how much its output matters.

    Attributes:
        query: after position encoding.
        key: likewise.
        value: of each token.
        gradient: of the objective with respect to the layer's attention output.
        scale: of the scores.
    """

    query: Float[Tensor, "rows heads tokens dim"]
    key: Float[Tensor, "rows kv_heads tokens dim"]
    value: Float[Tensor, "rows kv_heads tokens value_dim"]
    gradient: Float[Tensor, "rows heads tokens value_dim"]
    scale: float


def full_attention_layers(adapter: Adapter) -> list[int]:
    """Indices of the layers that a pruned cache prunes."""
    return [layer.index for layer in PrunedCache(adapter.config, Pruning(Full())).pruned]


def within(window: int | None, tokens: int) -> Bool[Tensor, "tokens tokens"] | None:
    """Which tokens (second axis) each sees: itself and the newest before it, `window` in all.

    None where there is no window: all up to itself.
    """
    if window is None:
        return None
    before = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return (before >= 0) & (before < window)


def bytes_of(adapter: Adapter, tokens: int) -> int:
    """What a record of so many tokens takes on disk, in half precision."""
    shape = LayerShape.of(adapter.config, torch.float16)
    numbers = (shape.heads + shape.kv_heads) * 2 * shape.dim
    return tokens * numbers * shape.dtype.itemsize * len(full_attention_layers(adapter))


def record_layers(
    adapter: Adapter,
    embeddings: Float[Tensor, "rows tokens hidden"],
    objective: Callable[[Tensor], Tensor],
) -> dict[int, LayerStates]:
    """Run a model once, forwards and backwards, and take down every full-attention layer.

    Args:
        adapter: of the model.
        embeddings: what it is run on.
        objective: runs it on them, without a cache, and gives the number to be differentiated.

    Raises:
        UserError: the objective or its gradient is not finite, or the model does not attend where
            it was expected to.
    """
    adapter.model.requires_grad_(False)
    with Recorder(adapter) as recorder, torch.enable_grad():
        value = objective(embeddings.detach().clone().requires_grad_())
        value.backward()
    layers = recorder.layers()
    finite = value.isfinite() and all(one.gradient.isfinite().all() for one in layers.values())
    if not finite:
        raise UserError(
            f"{adapter.model.config.model_type} has a loss or gradients that are not finite; "
            "record it with another --dtype"
        )
    return layers


class Recorder:
    """A model whose full-attention layers are taken down, while the `with` block lasts.

    Args:
        adapter: of the model.
    """

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._wanted = full_attention_layers(adapter)
        self._taken: dict[int, tuple[Tensor, Tensor, Tensor, Tensor, float]] = {}

    def __enter__(self) -> "Recorder":
        AttentionInterface.register(_IMPLEMENTATION, _attention)
        AttentionMaskInterface.register(_IMPLEMENTATION, sdpa_mask)
        self._before = self._adapter.set_attention(_IMPLEMENTATION)
        for module in self._adapter.attention_modules:
            setattr(module, _RECORDER, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._adapter.set_attention(self._before)
        for module in self._adapter.attention_modules:
            delattr(module, _RECORDER)

    def take(
        self, index: int, states: tuple[Tensor, Tensor, Tensor], out: Tensor, scale: float
    ) -> None:
        """One layer's call."""
        if index in self._wanted and out.requires_grad:
            out.retain_grad()
            query, key, value = (tensor.detach() for tensor in states)
            self._taken[index] = (query, key, value, out, scale)

    def layers(self) -> dict[int, LayerStates]:
        """Every layer, once the objective was differentiated.

        Raises:
            UserError: one was not called.
        """
        if missing := sorted(set(self._wanted) - set(self._taken)):
            raise UserError(
                f"layer {missing[0]} of {self._adapter.model.config.model_type} was not run, so "
                "there is nothing to record of it; use another model"
            )
        return {
            index: LayerStates(query, key, value, _gradient(out), scale)
            for index, (query, key, value, out, scale) in sorted(self._taken.items())
        }


def _gradient(out: Float[Tensor, "rows tokens heads dim"]) -> Tensor:
    """Zero where nothing that is asked depends on the layer."""
    return (torch.zeros_like(out) if out.grad is None else out.grad).transpose(1, 2)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The stock attention, taken down."""
    out, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout, scaling, **kwargs
    )
    recorder = getattr(module, _RECORDER, None)
    if recorder is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        recorder.take(module.layer_idx, (query, key, value), out, scale)
    return out, None

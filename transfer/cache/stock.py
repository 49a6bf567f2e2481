"""Layers of a cache that are not pruned: what they have instead, and the bytes they hold."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from transformers.cache_utils import (
    DummyLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

#: Kinds of layers that keep their stock cache, as it is bounded, and what they have.
LEFT_ALONE: dict[type, str] = {
    DynamicSlidingWindowLayer: "an attention window",
    LinearAttentionLayer: "a recurrent state",
    LinearAttentionAndSlidingWindowAttentionLayer: "an attention window and a recurrent state",
    DummyLayer: "no attention",
}


def described(layer: Any) -> str:
    """What a layer of these kinds has; of a window (a chunk is one too), how many tokens."""
    window = getattr(layer, "sliding_window", None)
    what = LEFT_ALONE[type(layer)]
    return what if window is None else what.replace("window", f"window of {window} tokens")


def states(layer: Any) -> Iterator[Tensor]:
    """The states of a layer that has some, however long its input was."""
    for named in (getattr(layer, "conv_states", {}), getattr(layer, "recurrent_states", {})):
        yield from (state for state in named.values() if state is not None)


def held_bytes(layer: Any) -> int:
    """Bytes of the keys, values and states that a layer holds now."""
    window = (getattr(layer, "keys", None), getattr(layer, "values", None))
    tensors = [*(tensor for tensor in window if tensor is not None), *states(layer)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def byte_steps(layer: Any, tokens: int) -> float:
    """The bytes that a layer held at each of so many tokens, summed.

    States are there all the time; what there is of a window now came token by token, and stayed.
    """
    fixed = sum(state.untyped_storage().nbytes() for state in states(layer))
    keys = getattr(layer, "keys", None)
    held = 0 if keys is None else keys.shape[-2]
    steps = max(tokens - held, 0) + (held + 1) / 2
    return fixed * tokens + (held_bytes(layer) - fixed) * steps


def compact(layer: DynamicSlidingWindowLayer) -> None:
    """Let go of what lies outside the window: slices of a long call would keep all of it alive."""
    layer.keys, layer.values = layer.keys.clone(), layer.values.clone()  # pyright: ignore[reportOptionalMemberAccess]

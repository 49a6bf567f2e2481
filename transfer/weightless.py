"""What each layer of a model caches, found by running the model without its weights.

On torch's meta device a model of any size is built and run in a second or two: tensors have shapes
and no content. So nothing here knows how wide a latent is or how large a family's states are.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
)

from transfer.adapters.loading import first_line, quiet
from transfer.cache.footprint import LayerShape
from transfer.cache.policy import Depth
from transfer.cache.stock import LEFT_ALONE, states
from transfer.errors import UserError

#: Tokens that are run.
_FEW = 3


@dataclass(frozen=True)
class CachedLayer:
    """What one layer caches.

    Attributes:
        shape: of its keys and values; None: it has none.
        window: how many tokens it holds at most; None: all.
        state: bytes that do not grow.
        depth: among those that would be pruned; None: it would not be. As the model may be refused,
            this is not all there is to it.
    """

    shape: LayerShape | None
    window: int | None
    state: int
    depth: Depth | None

    @property
    def pruned(self) -> bool:
        """Whether it would be pruned."""
        return self.depth is not None

    def full_bytes(self, tokens: int) -> int:
        """Bytes in the stock cache after so many tokens."""
        held = tokens if self.window is None else min(self.window, tokens)
        return self.state + (self.shape.full_bytes(held) if self.shape else 0)


def weightless(config: PreTrainedConfig, trust_remote_code: bool = False) -> PreTrainedModel:
    """A text decoder of this configuration, which takes `input_ids`, on the meta device.

    Raises:
        UserError: transformers knows no model for this configuration alone.
    """
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    generates = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or remote
    kind = AutoModelForCausalLM if generates else AutoModel
    # The other ways to run experts look at what routers say, or take bfloat16 alone.
    settings: dict[str, Any] = {"experts_implementation": "batched_mm"}
    if trust_remote_code:
        settings["trust_remote_code"] = True
    try:
        with torch.device("meta"), quiet():
            model = kind.from_config(config, dtype=config.dtype, **settings).eval()
    # Other people's configurations raise what they like.
    except Exception as error:
        raise UserError(
            f"{config.model_type} cannot be built without its weights ({first_line(error)}); "
            "attach it and read memory.report()"
        ) from error
    # Else some models look whether there is padding among the tokens (and some want a number here).
    vars(model.config)["pad_token_id"] = None
    # A Decision Transformer has its decoder inside.
    return model.encoder if config.model_type == "decision_transformer" else model


def cached_layers(model: PreTrainedModel, batch: int = 1, ranks: int = 1) -> list[CachedLayer]:
    """What each layer of a weightless model caches.

    Args:
        model: see `weightless`.
        batch: sequences.
        ranks: processes that share the heads of each layer.

    Raises:
        UserError: the model cannot be run so.
    """
    cache = DynamicCache(config=model.config)
    ids = torch.zeros(batch, _FEW, dtype=torch.long, device="meta")
    try:
        with torch.no_grad(), quiet():
            model(input_ids=ids, cache=cache)
    # Somebody else's model may raise anything.
    except Exception as error:
        raise UserError(
            f"what {model.config.model_type} caches cannot be told without its weights "
            f"({type(error).__name__}: {first_line(error)}); attach it and read memory.report()"
        ) from error
    heads = model.config.num_attention_heads
    pruned = [layer for layer in cache.layers if type(layer) not in LEFT_ALONE]
    depths = {id(layer): Depth(place, len(pruned)) for place, layer in enumerate(pruned)}
    return [_cached(layer, heads, ranks, depths.get(id(layer))) for layer in cache.layers]


def _cached(layer: Any, heads: int, ranks: int, depth: Depth | None) -> CachedLayer:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    shape = None
    if keys is not None and values is not None:
        batch, kv_heads, _, dim = keys.shape
        shape = LayerShape(
            batch, heads // ranks, kv_heads // ranks, dim, keys.dtype, values.shape[3]
        )
    window = getattr(layer, "sliding_window", None)
    return CachedLayer(shape, window, sum(state.nbytes for state in states(layer)), depth)

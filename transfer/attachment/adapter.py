"""What an adapter is: one model family seen as a stack of attention layers.

It knows where the text model sits, why pruning it would be silently wrong, and how to probe it. It
knows no policy.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import (
    DynamicIndexedLayer,
    DynamicLayer,
    LinearAttentionAndFullAttentionLayer,
)

from transfer.arguments import typed
from transfer.cache.cache import PrunedCache
from transfer.cache.layer import PrunedLayer
from transfer.cache.stock import LEFT_ALONE
from transfer.errors import UserError
from transfer.plugins import ADAPTERS

#: What modules that attend to an encoder are called.
_CROSS_ATTENTION = ("encoder_attn", "cross_attn", "crossattention")
#: Cache layers that are pruned, and those that are neither pruned nor left alone.
_PRUNED = {DynamicLayer, LinearAttentionAndFullAttentionLayer}
_REFUSED_LAYERS: dict[type, str] = {
    DynamicIndexedLayer: "attention to tokens chosen by each query",
}


class Adapter:
    """One model seen as a stack of attention layers.

    Args:
        model: any transformers model with the attention interface.

    Raises:
        UserError: pruning this model would be silently wrong; the cause is named.
    """

    @typed
    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.refuse()

    @property
    def config(self) -> PreTrainedConfig:
        """Configuration of the text decoder."""
        return self.model.config.get_text_config(decoder=True)

    @property
    def attention_modules(self) -> list[nn.Module]:
        """The decoder's attention modules, in layer order."""
        return [
            module
            for module in self.model.modules()
            if isinstance(getattr(module, "layer_idx", None), int)
            and getattr(module, "config", None) is self.config
        ]

    @property
    def decoders(self) -> list[nn.Module]:
        """The modules whose forward passes go through all attention modules, outermost first."""
        layers = set(self.attention_modules)
        return [module for module in self.model.modules() if layers <= set(module.modules())]

    @property
    def devices(self) -> dict[int, torch.device]:
        """Where each layer is, by its index; a rank of a pipeline has only some."""
        layers = {}
        for module in self.model.modules():
            index = getattr(module, "layer_idx", None)
            if isinstance(index, int):
                first = next(module.parameters(), None)
                layers[index] = self.model.device if first is None else first.device
        return layers

    def refuse(self) -> None:
        """Raise `UserError` if pruning this model would be silently wrong."""
        config, kind = self.config, self.model.config.model_type
        if getattr(self.model.config, "is_encoder_decoder", False):
            raise UserError(f"{kind} is an encoder-decoder; only decoder-only models can be pruned")
        if any(name.split(".")[-1] in _CROSS_ATTENTION for name, _ in self.model.named_modules()):
            raise UserError(
                f"{kind} has cross-attention to an encoder, which a pruned cache cannot follow"
            )
        if getattr(config, "attn_logit_softcapping", None) is not None:
            raise UserError(
                f"{kind} caps its attention logits (softcap), which a pruned cache cannot follow; "
                "load it with attn_logit_softcapping=None or use another model"
            )
        if getattr(config, "kv_lora_rank", None) is not None:
            raise UserError(
                f"{kind} caches latents instead of keys, which cannot be pruned yet; use a model "
                "that caches keys"
            )
        if any(hasattr(module, "sinks") for module in self.attention_modules):
            raise UserError(
                f"{kind} has attention sinks, which a pruned cache cannot follow; use another model"
            )
        if getattr(config, "output_attentions", False):
            raise UserError(
                "a pruned model does not return its attention; set output_attentions=False in the "
                "model's config, use attach(..., expose_attention=True) and memory.attention(layer)"
            )
        self._refuse_layers()

    def _refuse_layers(self) -> None:
        """Refuse kinds of layers whose cache is neither left alone nor keys and values alone."""
        kind, layers = self.model.config.model_type, DynamicCache(config=self.config).layers
        kinds = {type(layer) for layer in layers}
        if "reuse" in (getattr(self.config, "kv_sharing_modes", None) or ()):
            raise UserError(
                f"{kind} has layers that read the keys of other layers, which cannot be pruned "
                "yet; use another model"
            )
        for unknown in kinds - {*_PRUNED, *LEFT_ALONE}:
            what = _REFUSED_LAYERS.get(unknown, f"a cache of their own ({unknown.__name__})")
            raise UserError(
                f"{kind} has layers with {what}, which cannot be pruned yet; use another model"
            )
        if not kinds & _PRUNED:
            left = " and ".join(sorted(f"layers with {LEFT_ALONE[each]}" for each in kinds))
            raise UserError(
                f"{kind} has no full-attention layer to prune, only {left}; "
                "its cache is bounded already, use the model as it is"
            )

    def set_attention(self, implementation: str) -> str:
        """Switch the text decoder's attention implementation.

        Returns:
            The name of the implementation it had.

        Raises:
            UserError: the model ignores it (no attention interface).
        """
        before = self.config._attn_implementation
        composite = self.config is not self.model.config
        self.model.set_attn_implementation(
            {"text_config": implementation} if composite else implementation
        )
        if self.config._attn_implementation != implementation:
            raise UserError(
                f"{self.model.config.model_type} does not use transformers' attention interface, "
                "so nothing can be pruned; use a model whose class supports it"
            )
        return before or "eager"

    def attention(
        self, cache: PrunedCache, layer: int
    ) -> Float[Tensor, "batch heads queries tokens"]:
        """Attention matrix of one layer for the current window, or the last one right after it.

        Tokens are those still cached, old to new, padded on the left where heads differ.

        Args:
            cache: after the model ran with it.
            layer: index of the layer in the model.

        Raises:
            UserError: the layer is not pruned, nothing ran yet, or the model was attached without
                `expose_attention=True`.
        """
        pruned = pruned_layer(cache, layer)
        if not pruned.pruning.expose_attention:
            raise UserError(
                "this cache did not remember its queries; attach with expose_attention=True"
            )
        return pruned.attention()

    def probe(self, batch: int, tokens: int) -> dict[str, Any]:
        """Fixed pseudo-random inputs of the model for `check_adapter`: ids that mean only text."""
        special = set(_special_ids(self.model.config.to_dict()))
        plain = torch.tensor([i for i in range(self.config.vocab_size) if i not in special])
        drawn = torch.randint(len(plain), (batch, tokens), generator=probe_generator(batch, tokens))
        return {"input_ids": plain[drawn].to(self.model.device)}

    def outputs(
        self, inputs: Mapping[str, Any], cache: Cache | None
    ) -> Float[Tensor, "batch tokens ..."]:
        """What the model says of each token: logits, or hidden states where it has no head."""
        outputs = self.model(**inputs, cache=cache, use_cache=cache is not None)
        return outputs.logits if "logits" in outputs else outputs.last_hidden_state


def pruned_layer(cache: PrunedCache, layer: int) -> PrunedLayer:
    """A layer of a cache, by its index in the model.

    Raises:
        UserError: it is not pruned.
    """
    layers = {pruned.index: pruned for pruned in cache.pruned}
    if layer not in layers:
        raise UserError(f"layer {layer} is not pruned; pruned layers: {sorted(layers)}")
    return layers[layer]


@typed
def get_adapter(model: PreTrainedModel) -> Adapter:
    """The adapter of a model; families nobody named are taken for plain decoders.

    Raises:
        UserError: this is no model, or pruning it would be silently wrong.
    """
    kind = str(model.config.model_type)
    adapter: type[Adapter] = ADAPTERS.get(kind) if kind in ADAPTERS else Adapter
    return adapter(model)


def probe_generator(batch: int, tokens: int) -> torch.Generator:
    """The source of a probe's pseudo-random inputs."""
    return torch.Generator().manual_seed(batch * 100_003 + tokens)


def _special_ids(config: Mapping[Any, Any]) -> Iterator[int]:
    """Ids that stand for padding, images and the like, wherever a configuration names them."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _special_ids(value)
        elif str(name).endswith(("_token_id", "_token_index")):
            yield from (i for i in (value if isinstance(value, list) else [value]) if i is not None)

"""Decision Transformers whose layers normalise after each addition, as min-decision-transformer's.

GPT-2's, the stock ones, normalise before, and add to what was never normalised: no weights make
one of the other. Both have the same attention, which is all that a cache sees.
"""

from typing import Any

from torch import Tensor, nn
from transformers import Cache, DecisionTransformerConfig, DecisionTransformerModel
from transformers.models.decision_transformer.modeling_decision_transformer import (
    DecisionTransformerGPT2Block,
)


class PostNormBlock(DecisionTransformerGPT2Block):
    """A layer of the stock model with its two norms after the additions."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        hidden_states: Tensor,
        cache: Cache | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        use_cache: bool | None = False,
        **more: Any,
    ) -> Tensor:
        """The layer's output; as of the stock one."""
        attended, _ = self.attn(
            hidden_states, cache=cache, attention_mask=attention_mask, use_cache=use_cache, **more
        )
        hidden_states = self.ln_1(hidden_states + attended)
        return self.ln_2(hidden_states + self.mlp(hidden_states))


class PostNormDecisionTransformerModel(DecisionTransformerModel):
    """The stock model with such layers, and no norm after the last; `config.post_norm` says so."""

    def __init__(self, config: DecisionTransformerConfig) -> None:
        super().__init__(config)
        layers = range(config.num_hidden_layers)
        self.encoder.h = nn.ModuleList(PostNormBlock(config, layer_idx=layer) for layer in layers)
        self.encoder.ln_f = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        self.post_init()


def control_class(post_norm: bool) -> type[DecisionTransformerModel]:
    """The class of a model by where its layers normalise."""
    return PostNormDecisionTransformerModel if post_norm else DecisionTransformerModel

"""Which adapter knows which model, by `config.model_type`."""

from transformers import PreTrainedModel

from transfer.adapters.base import Adapter
from transfer.adapters.causal_lm import CausalLMAdapter
from transfer.adapters.decision_transformer import DecisionTransformerAdapter
from transfer.adapters.llava_next_video import LlavaNextVideoAdapter

ADAPTERS: dict[str, type[Adapter]] = {
    model_type: adapter
    for adapter in (CausalLMAdapter, DecisionTransformerAdapter, LlavaNextVideoAdapter)
    for model_type in adapter.model_types
}


def get_adapter(model: PreTrainedModel) -> Adapter:
    """The adapter of a model; families nobody named are taken for plain decoders.

    Raises:
        UserError: pruning this model would be silently wrong.
    """
    return ADAPTERS.get(model.config.model_type, Adapter)(model)

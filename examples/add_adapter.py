"""A model family of your own is checked: pruned without evicting, it gives the same numbers.

    python examples/add_adapter.py

Families that nobody named are taken for plain decoders, and can be attached to; an adapter adds
where the decoder is, why a model must be refused, and inputs for the check.
"""

import torch
from transformers import OlmoConfig, OlmoForCausalLM

from transfer import Adapter, check_adapter, register
from transfer.attachment.adapter import probe_generator


class OlmoAdapter(Adapter):
    """OLMo, by its `config.model_type`."""

    def probe(self, batch, tokens):
        """The model's keyword arguments; without this method they are random token ids."""
        generator = probe_generator(batch, tokens)
        return {"input_ids": torch.randint(97, (batch, tokens), generator=generator)}


if __name__ == "__main__":
    register("adapter", "olmo", OlmoAdapter)
    config = OlmoConfig(
        vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=None,
    )  # fmt: skip
    print(check_adapter(OlmoForCausalLM(config).eval()))

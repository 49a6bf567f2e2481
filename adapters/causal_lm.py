"""Decoder-only language models: Llama 8B and 70B and their relatives."""

import torch
from transformers import Cache

from transfer.attachment.adapter import Adapter, Probe, probe_generator


class CausalLMAdapter(Adapter):
    """Language models whose attention goes through transformers' attention interface.

    In models that mix full-attention and sliding-window layers (Gemma 2 and 3) the former are
    pruned and the latter keep their stock cache.
    """

    def probe(self, batch: int, tokens: int) -> Probe:
        """Logits of random token ids."""
        ids = torch.randint(
            self.config.vocab_size, (batch, tokens), generator=probe_generator(batch, tokens)
        ).to(self.model.device)

        def run(cache: Cache | None) -> torch.Tensor:
            return self.model(ids, cache=cache, use_cache=cache is not None).logits

        return run

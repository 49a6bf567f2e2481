"""A model family: with it `transfer doctor --model FOLDER_OF_A_STABLELM` can check the pruning."""

import torch
from transformers import Cache

from transfer import Adapter
from transfer.attachment.adapter import Probe, probe_generator
from transfer.errors import UserError


class StableLmAdapter(Adapter):
    """StableLM, by its `config.model_type`."""

    def refuse(self) -> None:
        """Say why a model of the family cannot be pruned, if so."""
        super().refuse()
        if self.config.vocab_size < 2:
            raise UserError("a StableLM of one token says nothing; take another")

    def probe(self, batch: int, tokens: int) -> Probe:
        """Logits of random token ids, which pruning must not change where nothing is evicted."""
        generator = probe_generator(batch, tokens)
        ids = torch.randint(self.config.vocab_size, (batch, tokens), generator=generator)

        def run(cache: Cache | None) -> torch.Tensor:
            ids_there = ids.to(self.model.device)
            return self.model(ids_there, cache=cache, use_cache=cache is not None).logits

        return run

"""A model family: with it `transfer doctor --model FOLDER_OF_A_STABLELM` can check the pruning."""

from typing import Any

import torch

from transfer import Adapter
from transfer.attachment.adapter import probe_generator
from transfer.errors import UserError


class StableLmAdapter(Adapter):
    """StableLM, by its `config.model_type`."""

    def refuse(self) -> None:
        """Say why a model of the family cannot be pruned, if so."""
        super().refuse()
        if self.config.vocab_size < 2:
            raise UserError("a StableLM of one token says nothing; take another")

    def probe(self, batch: int, tokens: int) -> dict[str, Any]:
        """Inputs for the check; the base's random token ids do for most decoders."""
        generator = probe_generator(batch, tokens)
        ids = torch.randint(self.config.vocab_size, (batch, tokens), generator=generator)
        return {"input_ids": ids.to(self.model.device)}

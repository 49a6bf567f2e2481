"""Loading causal language models, the shipped tiny ones and any other, with their tokenizers."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from transfer.adapters.kinds import Source, find_model
from transfer.adapters.loading import load_weights, unloadable
from transfer.arguments import typed


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with what reads text for it.

    Attributes:
        model: in evaluation mode.
        tokenizer: None for a model of symbols, as the shipped ones.
        name: as it was asked for; of a folder, its last part.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    name: str


@typed
def load_language_model(
    name_or_path: str | Path, trust_remote_code: bool = False, **settings: Any
) -> LanguageModel:
    """Load a shipped language model, a local folder, or a repository of the Hub.

    Models of symbols (no tokenizer) are float32 in memory, others of the type they are stored in.

    Args:
        name_or_path: of the model.
        trust_remote_code: run the Python that the model and its tokenizer bring.
        settings: of `from_pretrained`, as `device_map` and `distributed_config`, to shard it.

    Raises:
        UserError: nothing of that name, no causal language model, or weights that are missing,
            cut or of other shapes.
    """
    source = find_model(name_or_path, "language")
    tokenizer = _load_tokenizer(source, trust_remote_code)
    settings = {"dtype": "auto" if tokenizer else torch.float32, **settings}
    explain = partial(unloadable, "language")
    model = load_weights(AutoModelForCausalLM, source.path, explain, trust_remote_code, **settings)
    return LanguageModel(model, tokenizer, source.title)


def _load_tokenizer(source: Source, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    if not source.reads_text:
        return None
    try:
        return AutoTokenizer.from_pretrained(source.path, trust_remote_code=trust_remote_code)
    # The tokenizers of damaged files raise what they like, as KeyError or Exception itself.
    except Exception as error:
        raise unloadable("language", source.path, error) from error

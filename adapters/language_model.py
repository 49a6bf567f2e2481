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

from transfer.adapters.gguf_files import converted
from transfer.adapters.kinds import TOKENIZER_FILES, find_model
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
    name_or_path: str | Path,
    trust_remote_code: bool = False,
    dtype: torch.dtype | str | None = None,
    device: str | None = None,
    **settings: Any,
) -> LanguageModel:
    """Load a shipped or fetched language model, a local folder or GGUF file, or one of the Hub.

    Args:
        name_or_path: of the model.
        trust_remote_code: run the Python that the model and its tokenizer bring.
        dtype: of the weights; None: of models of symbols (no tokenizer) float32, of others as they
            are stored, or float32 where the CPU has no arithmetic for that.
        device: where it computes: auto, cpu, cuda, cuda:1, mps; None: the CPU, or as `settings`
            say.
        settings: of `from_pretrained`, as `device_map` and `distributed_config`, to shard it.

    Raises:
        UserError: nothing of that name, no causal language model, or weights that are missing,
            cut or of other shapes, or the device cannot be used.
    """
    source = find_model(name_or_path, "language")
    folder = source.folder if source.gguf is None else converted(source.gguf)
    path = source.name if folder is None else str(folder)
    tokenizer = _load_tokenizer(path, folder, trust_remote_code)
    model = load_weights(
        AutoModelForCausalLM,
        path,
        partial(unloadable, "language"),
        trust_remote_code,
        dtype or (None if tokenizer else torch.float32),
        device,
        source.shipped,
        **settings,
    )
    return LanguageModel(model, tokenizer, source.title)


def _load_tokenizer(
    path: str, folder: Path | None, trust_remote_code: bool
) -> PreTrainedTokenizerBase | None:
    if folder and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    # The tokenizers of damaged files raise what they like, as KeyError or Exception itself.
    except Exception as error:
        raise unloadable("language", path, error) from error

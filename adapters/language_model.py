"""Loading causal language models, the shipped tiny ones and any other, with their tokenizers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from transfer.adapters.loading import first_line, load_weights
from transfer.adapters.preprocessing import PICTURES
from transfer.checkpoints import shipped
from transfer.errors import UserError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


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


def shipped_language_models() -> list[str]:
    """Names of the language models that come with the package."""
    # Video models read text too, but have another loader.
    others = {*shipped("namm.safetensors"), *shipped("control.json"), *shipped(PICTURES[0])}
    return sorted(set(shipped("config.json")) - others)


def load_language_model(name_or_path: str | Path, **settings: Any) -> LanguageModel:
    """Load a shipped language model, a local folder, or a repository of the Hub.

    Models of symbols (no tokenizer) are float32 in memory, others of the type they are stored in.

    Args:
        name_or_path: of the model.
        settings: of `from_pretrained`, as `device_map` and `distributed_config`, to shard it.

    Raises:
        UserError: nothing of that name, no causal language model, or weights that are missing,
            cut or of other shapes.
    """
    name = str(name_or_path)
    source = str(shipped("config.json")[name]) if name in shipped_language_models() else name
    tokenizer = _load_tokenizer(source)
    settings = {"dtype": "auto" if tokenizer else torch.float32, **settings}
    model = _load_model(source, settings)
    return LanguageModel(model, tokenizer, Path(name).name if Path(name).is_dir() else name)


def _load_tokenizer(source: str) -> PreTrainedTokenizerBase | None:
    folder = Path(source)
    if folder.is_dir() and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        raise _unloadable(source, error) from error


def _load_model(source: str, settings: dict[str, Any]) -> PreTrainedModel:
    try:
        return load_weights(AutoModelForCausalLM, source, **settings)
    except UserError:
        raise
    # safetensors' own error for a damaged file derives from Exception alone
    except Exception as error:
        raise _unloadable(source, error) from error


def _unloadable(source: str, error: Exception) -> UserError:
    return UserError(
        f"language model {source} cannot be loaded ({first_line(error)}); give a shipped name"
        f" ({', '.join(shipped_language_models()) or 'none are'}), a folder or a hub id"
    )

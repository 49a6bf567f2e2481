"""Loading causal language models, the shipped tiny ones and any other, with their tokenizers."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from transfer.errors import UserError

_SUFFIXES = ("-recall", "-recall-wide")
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
    found = (path.parent.name for path in _checkpoints().glob("*/model.safetensors"))
    return sorted(name for name in found if name.endswith(_SUFFIXES))


def load_language_model(name_or_path: str | Path) -> LanguageModel:
    """Load a shipped language model, a local folder, or a repository of the Hub.

    Models of symbols (no tokenizer) are float32 in memory, others of the type they are stored in.

    Raises:
        UserError: nothing of that name, no causal language model, or weights that are missing,
            cut or of other shapes.
    """
    name = str(name_or_path)
    source = str(_checkpoints() / name) if name in shipped_language_models() else name
    tokenizer = _load_tokenizer(source)
    model = _load_model(source, "auto" if tokenizer else torch.float32)
    return LanguageModel(model, tokenizer, Path(name).name if Path(name).is_dir() else name)


def _checkpoints() -> Path:
    return Path(str(resources.files("transfer.checkpoints")))


def _load_tokenizer(source: str) -> PreTrainedTokenizerBase | None:
    folder = Path(source)
    if folder.is_dir() and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        raise _unloadable(source, error) from error


def _load_model(source: str, dtype: torch.dtype | str) -> PreTrainedModel:
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, output_loading_info=True
        )
    # safetensors' own error for a damaged file derives from Exception alone
    except Exception as error:
        raise _unloadable(source, error) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    model, report = loaded
    if report["missing_keys"]:
        raise UserError(
            f"the weights of {source} lack {min(report['missing_keys'])!r};"
            " download or save the model again"
        )
    return model.eval()


def _unloadable(source: str, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
    return UserError(
        f"language model {source} cannot be loaded ({reason}); give a shipped name"
        f" ({', '.join(shipped_language_models()) or 'none are'}), a folder or a hub id"
    )

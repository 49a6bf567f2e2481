"""Loading transformers models: quietly, and with every weight there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import CRITICAL
from typing import Any

from transformers.utils import logging

from transfer.adapters.kinds import Kind, shipped_models
from transfer.errors import UserError


def load_weights(
    model_class: Any, path: str, explain: Callable[[str, Exception], UserError], **settings: Any
) -> Any:
    """`model_class.from_pretrained`, in evaluation mode.

    Args:
        model_class: of transformers.
        path: a folder or a hub id.
        explain: what is wrong, for an error of transformers or safetensors.
        settings: of `from_pretrained`, as `dtype` and `device_map`.

    Raises:
        UserError: the weights cannot be loaded, or one is missing.
    """
    try:
        with quiet():
            model, report = model_class.from_pretrained(path, output_loading_info=True, **settings)
    # safetensors' own error for a damaged file derives from Exception alone.
    except Exception as error:
        raise explain(path, error) from error
    if report["missing_keys"]:
        raise UserError(
            f"the weights of {path} lack {min(report['missing_keys'])!r};"
            " download or save the model again"
        )
    return model.eval()


def unloadable(kind: Kind, path: str, error: Exception) -> UserError:
    """The sentence for a model whose files transformers cannot use."""
    return UserError(
        f"{kind} model {path} cannot be loaded ({first_line(error)}); give a shipped name"
        f" ({', '.join(shipped_models(kind))}), a folder or a hub id"
    )


def first_line(error: Exception) -> str:
    """What an error of another library says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")


@contextmanager
def quiet() -> Iterator[None]:
    """transformers draws a bar and a table of its own; here one sentence tells what is wrong."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

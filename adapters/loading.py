"""Loading transformers models: quietly, and with every weight there."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import logging

from transfer.errors import UserError


def load_weights(kind: Any, source: str, **settings: Any) -> PreTrainedModel:
    """`kind.from_pretrained`, in evaluation mode.

    Args:
        kind: a transformers model class.
        source: a folder or a hub id.
        settings: of `from_pretrained`, as `dtype` and `device_map`.

    Raises:
        UserError: a weight is missing.
        Exception: what transformers and safetensors raise.
    """
    with quiet():
        model, report = kind.from_pretrained(source, output_loading_info=True, **settings)
    if report["missing_keys"]:
        raise UserError(
            f"the weights of {source} lack {min(report['missing_keys'])!r};"
            " download or save the model again"
        )
    return model.eval()


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

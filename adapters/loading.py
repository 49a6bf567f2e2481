"""Loading transformers models: quietly, with every weight there, and without Python from outside.

A model may bring Python of its own. It runs for `trust_remote_code=True` alone, which is passed on
explicitly everywhere, because transformers asks on standard input where nothing is said.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from logging import CRITICAL
from pickle import UnpicklingError
from typing import Any

from transformers.utils import logging

from transfer.adapters.kinds import Kind, shipped_models
from transfer.adapters.placement import usable_device, widen
from transfer.errors import UserError, listed

#: The number of a layer within the name of a weight.
_NUMBER = re.compile(r"\.\d+\.")


def load_weights(
    model_class: Any,
    path: str,
    explain: Callable[[str, Exception], UserError],
    trust_remote_code: bool = False,
    dtype: Any = None,
    device: str | None = None,
    small: bool = False,
    **settings: Any,
) -> Any:
    """`model_class.from_pretrained`, in evaluation mode.

    Args:
        model_class: of transformers.
        path: a folder or a hub id.
        explain: what is wrong, for an error of transformers or safetensors.
        trust_remote_code: run the Python that the model brings.
        dtype: of the weights; None: as they are stored, or float32 where the CPU has no arithmetic
            for that.
        device: where it computes, see `usable_device`; None: where transformers puts it.
        small: whether `auto` is the CPU.
        settings: of `from_pretrained`, as `device_map`.

    Raises:
        UserError: the device cannot be used, the weights cannot be loaded, one is missing, or they
            have more layers than config.json says.
    """
    place = None if device is None else usable_device(device, small, dtype)
    settings = {"dtype": dtype or "auto", "trust_remote_code": trust_remote_code, **settings}
    model = _load(model_class, path, explain, settings)
    if place is not None:
        model.to(place)
    if dtype is None:
        widen(model, path)
    return model


def _load(
    model_class: Any,
    path: str,
    explain: Callable[[str, Exception], UserError],
    settings: Mapping[str, Any],
) -> Any:
    try:
        with quiet():
            model, report = model_class.from_pretrained(path, output_loading_info=True, **settings)
        path = settings.get("gguf_file", path)
    # safetensors' own error for a damaged file derives from Exception alone.
    except Exception as error:
        raise explain(path, error) from error
    if report["missing_keys"]:
        raise UserError(
            f"the weights of {path} lack {min(report['missing_keys'])!r};"
            " download or save the model again"
        )
    _refuse_further_layers(path, report["unexpected_keys"], model.state_dict())
    # A folder may ask for bare tuples, which nothing here reads.
    model.config.return_dict = True
    return model.eval()


def _refuse_further_layers(path: str, unexpected: Iterable[str], known: Iterable[str]) -> None:
    """Weights that are named like those of a layer of the model belong to layers it has not."""
    layers = {_NUMBER.sub(".#.", name) for name in known}
    more = [
        name for name in unexpected if _NUMBER.search(name) and _NUMBER.sub(".#.", name) in layers
    ]
    if more:
        raise UserError(
            f"the weights of {path} have {min(more)!r}, a layer that its config.json leaves out;"
            " download or save the model again"
        )


def unloadable(kind: Kind, path: str, error: Exception) -> UserError:
    """The sentence for a model whose files transformers cannot use."""
    return UserError(
        f"{kind} model {path} cannot be loaded ({first_line(error)}); give a shipped name"
        f" ({listed(shipped_models(kind))}), a folder or a hub id"
    )


def first_line(error: Exception) -> str:
    """What an error of another library says first."""
    if "trust_remote_code" in str(error):
        return "it brings Python of its own, which runs with --trust-remote-code alone"
    if isinstance(error, UnpicklingError) or "weights_only" in str(error):
        return "its weights hold more than tensors and were not read; save them as safetensors"
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

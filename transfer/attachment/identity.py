"""What tells one model from others, by what is in memory: for caches that outlive their process."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from transfer.attachment.adapter import Adapter
from transfer.errors import UserError

#: Numbers of a tensor that are read: this many whole, of more evenly spread ones, by odd steps, so
#: that rows of 4096 numbers are not read at the same few places.
_WHOLE, _SOME = 2**16, 2**12
#: What configurations say beside what a model computes.
_ASIDE = ("architectures", "dtype", "transformers_version")


def identity(adapter: Adapter) -> dict[str, Any]:
    """Family, configuration of the text decoder, layers that run here, and a digest of all weights.

    Of tensors with more than 65,536 numbers the digest reads 4,096 and more, spread evenly.

    Raises:
        UserError: the process holds parts of layers only, or weights are offloaded.
    """
    model, config = adapter.model, adapter.config
    if (model.tp_size or 1) > 1:
        raise UserError(
            "a tensor parallel process has only some heads of each layer, so its cache is no file "
            "for others; shard by layers instead (device_map)"
        )
    # What JSON cannot say is told by its name.
    settings = json.loads(json.dumps(config.to_dict(), default=str))
    told = {name: settings[name] for name in sorted(settings) if name not in _ASIDE}
    return {
        "family": model.config.model_type,
        **{f"config {name}": value for name, value in told.items() if name[0] != "_"},
        "layers": sorted(adapter.devices),
        "weights": _digest(_tensors(model)),
    }


def _tensors(model: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            if tensor.is_meta:
                raise UserError(
                    f"{name} of this model is offloaded, so that its weights cannot be told from "
                    "others; load the model onto its devices whole"
                )
            yield name, tensor


def _digest(tensors: Iterator[tuple[str, Tensor]]) -> str:
    found = hashlib.sha256()
    for name, tensor in tensors:
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        flat = tensor.detach().reshape(-1)
        some = flat if len(flat) <= _WHOLE else flat[:: len(flat) // _SOME | 1]
        found.update(some.cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]

"""NAMMs of the original implementation (SakanaAI/evo-memory); what a file holds is never run."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from transfer.errors import UserError
from transfer.namm.config import NAMMConfig
from transfer.namm.network import NAMM


def import_original(path: str | Path) -> NAMM:
    """Read a `ckpt.pt` of the original implementation (SakanaAI/evo-memory).

    Takes the search distribution's mean and the frozen feature statistics. The scorer's width is
    told from the vector's length, with biases where 25 + 1 would fit both ways (3276 numbers).

    Raises:
        UserError: the file is missing, damaged, holds code, or is another kind of checkpoint.
    """
    state = _evolution_state(path, read_checkpoint(path))
    buffers = "stored_buffers_to_save.token_embedding_0_output_"
    wanted = ("mean", f"{buffers}mean", f"{buffers}var")
    missing = [name for name in wanted if not isinstance(state.get(name), Tensor)]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}; give a ckpt.pt written by the original "
            "implementation after its first evaluation"
        )
    vector, mean, var = (state[name].flatten() for name in wanted)
    try:
        return NAMM(_config_of_size(len(vector)), vector, mean, var.sqrt())
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_checkpoint(path: str | Path) -> Any:
    """What `torch.save` wrote, without executing any of it.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, or is no checkpoint, and was not run; "
            "give a ckpt.pt of the original implementation, or a state dict"
        ) from error
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}; check the path") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; name the checkpoint's file") from error
    except Exception as error:
        # on damaged bytes the unpickler fails in whatever way they lead it to
        raise UserError(f"{path} is cut or damaged; copy or download it again") from error


def _evolution_state(path: str | Path, content: Any) -> dict[str, Any]:
    state = content.get("evolution_state") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise UserError(
            f"{path} has no evolution_state; give a ckpt.pt written by the original implementation"
        )
    return {str(key).replace("_orig_mod.", ""): value for key, value in state.items()}


def _config_of_size(size: int) -> NAMMConfig:
    for bias in (True, False):
        first, second = (NAMMConfig(hidden=hidden, bias=bias).size for hidden in (1, 2))
        steps, rest = divmod(size - first, second - first)
        if steps >= 0 and not rest:
            return NAMMConfig(hidden=steps + 1, bias=bias)
    raise UserError(
        f"no backward attention memory has {size} parameters; the published ones have 4172 and 2026"
    )

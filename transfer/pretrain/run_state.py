"""What training leaves in a folder: a state to go on from, a log, and the weights in the end."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from transfer.errors import UserError
from transfer.files import replacing


def state_path(folder: Path) -> Path:
    """The file of an unfinished run."""
    return folder / "training_state.pt"


def save_state(
    folder: Path,
    settings: str,
    state: Mapping[str, Any],
    log: Sequence[Mapping[str, float | int | None]],
) -> None:
    """Write the state and the log, each whole or not at all.

    Args:
        folder: of the run.
        settings: what identifies it.
        state: tensors, and containers and texts of what is none.
        log: one record a line.
    """
    with replacing(state_path(folder)) as partial:
        torch.save({**state, "settings": settings}, partial)
    with replacing(folder / "training.jsonl") as partial:
        partial.write_text("".join(json.dumps(record) + "\n" for record in log))


def load_state(folder: Path, settings: str) -> dict[str, Any]:
    """What `save_state` was given.

    Raises:
        UserError: the file is damaged, or belongs to a run with other settings.
    """
    path = state_path(folder)
    damaged = UserError(f"{path} is cut or damaged; delete it to start anew")
    try:
        state = torch.load(path, weights_only=True)
    # Bytes that are no such file make the unpickler raise nearly anything.
    except Exception as error:
        raise damaged from error
    if not isinstance(state, dict) or "settings" not in state:
        raise damaged
    if state["settings"] != settings:
        raise UserError(
            f"{folder} holds an unfinished run with other settings or data;"
            f" repeat its command, or choose another --out"
        )
    return state


def store_half(model: PreTrainedModel, folder: Path) -> None:
    """Weights as float16 on disk and, rounded likewise, as float32 in memory."""
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    model.half().save_pretrained(folder)
    if bars:
        logging.enable_progress_bar()
    # transformers leaves it to its owner alone
    (folder / "model.safetensors").chmod(0o644)
    model.float().eval()

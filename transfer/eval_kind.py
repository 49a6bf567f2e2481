"""Which kind of model, or a suite, the words of `transfer eval` name: whose options it takes.

Looks at names and at config.json alone, so that help does not wait for torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from transfer.checkpoints import shipped
from transfer.errors import UserError, unknown_name
from transfer.evaluation import control, video_qa
from transfer.files import is_hub_id, read_json_object

Kind = Literal["control", "language", "video", "suite"]


def eval_kind(words: Sequence[str]) -> Kind:
    """Control, unless a suite is named, or a model that is no such model.

    A shipped model or a folder says by its config.json whether it reads videos; of a hub id its
    name or the task says it.

    Raises:
        UserError: no shipped model, folder or hub id is named so.
    """
    if _option(words, "--suite"):
        return "suite"
    model = _option(words, "--model")
    if not model or control.MODEL in model or Path(model, "control.json").is_file():
        return "control"
    if model == video_qa.MODEL:
        return "video"
    known = {name: _reads_video(folder) for name, folder in _shipped().items()}
    if model in known or Path(model).is_dir():
        video = known[model] if model in known else _reads_video(Path(model))
        return "video" if video else "language"
    if is_hub_id(model):
        video = video_qa.MODEL in model.lower() or _option(words, "--task") in video_qa.TASKS
        return "video" if video else "language"
    raise unknown_name("model", model, [control.MODEL, video_qa.MODEL, *known])


def _option(words: Sequence[str], name: str) -> str:
    """The value that follows an option, or that is joined to it; empty without it."""
    for word, after in zip(words, [*words[1:], ""]):
        if word == name:
            return after
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return ""


def _shipped() -> dict[str, Path]:
    """Every language and video model that ships."""
    others = {*shipped("namm.safetensors"), *shipped("control.json")}
    return {name: path for name, path in shipped("config.json").items() if name not in others}


def _reads_video(folder: Path) -> bool:
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            f"folder {folder} has no config.json; save a model there, or check the path"
        )
    return read_json_object(path).get("model_type") == video_qa.MODEL_TYPE

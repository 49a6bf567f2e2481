"""NAMMs on disk and on the Hugging Face Hub: `config.json` beside `namm.safetensors`.

Nothing here ever unpickles: a file from a stranger can at worst be refused.
"""

import re
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from transfer.checkpoints import shipped
from transfer.errors import UserError, unknown_name
from transfer.files import read_json, replacing, write_json
from transfer.namm.network import NAMM, NAMMConfig

CONFIG_FILE = "config.json"
TENSORS_FILE = "namm.safetensors"
FORMAT = 1
_TENSORS = ("vector", "mean", "std")
_PREFIX = "namm-"

_CARD = """---
library_name: namm-transfer
tags: [kv-cache, namm]
---
# An evolved Neural Attention Memory Model

Prunes the KV cache of any transformer whose attention can be read: it scores every cached token
from the spectrogram of the attention the token receives, and tokens below 0 leave.

    from transfer import NAMM
    namm = NAMM.from_pretrained("{repo_id}")

Configuration: {config}.
"""


def save_namm(namm: NAMM, folder: str | Path) -> None:
    """Write both files into `folder`, each whole or not at all."""
    tensors = {name: getattr(namm, name).cpu().contiguous() for name in _TENSORS}
    with replacing(Path(folder) / TENSORS_FILE) as partial:
        save_file(tensors, partial)
    write_json(Path(folder) / CONFIG_FILE, {"format": FORMAT, **asdict(namm.config)})


def load_namm(name: str | Path) -> NAMM:
    """Load a NAMM by shipped name, from a local folder or from the Hugging Face Hub, in this order.

    Raises:
        UserError: there is none of that name, or its files are damaged.
    """
    name = str(name)
    known = _shipped()
    folder = known.get(name.removeprefix(_PREFIX), Path(name))
    if folder.is_file():
        raise UserError(
            f"{name} is a file; give the folder of a saved NAMM, or import an original ckpt.pt "
            "with `transfer import`"
        )
    if folder.is_dir():
        return _read(folder / CONFIG_FILE, folder / TENSORS_FILE)
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        return _read(*_download(name, known))
    raise unknown_name("NAMM", name, known)


def _shipped() -> dict[str, Path]:
    return {name.removeprefix(_PREFIX): path for name, path in shipped(TENSORS_FILE).items()}


def _read(config_path: Path, tensors_path: Path) -> NAMM:
    if not tensors_path.is_file():
        raise UserError(f"{tensors_path} is missing; give a folder that a NAMM was saved to")
    try:
        tensors = load_file(tensors_path)
    except SafetensorError as error:
        raise UserError(
            f"{tensors_path} is cut or damaged ({error}); make or download it again"
        ) from error
    if set(tensors) != set(_TENSORS):
        raise UserError(
            f"{tensors_path} holds {', '.join(sorted(tensors)) or 'nothing'} instead of "
            f"{', '.join(_TENSORS)}; give a folder that a NAMM was saved to"
        )
    try:
        return NAMM(_config(read_json(config_path)), **tensors)
    except UserError as error:
        raise UserError(f"{config_path.parent}: {error}") from error


def _config(content: Any) -> NAMMConfig:
    content = dict(content) if isinstance(content, dict) else {}
    version = content.pop("format", None)
    if version != FORMAT:
        raise UserError(
            f"{CONFIG_FILE} says format {version!r}, this version reads {FORMAT}; "
            "give a saved NAMM's folder, or upgrade namm-transfer"
        )
    known = asdict(NAMMConfig())
    for field, value in content.items():
        if field not in known:
            raise unknown_name(f"field in {CONFIG_FILE}", field, known)
        if type(value) is not type(known[field]):
            raise UserError(f"{CONFIG_FILE} says {field} {value!r}; write it like {known[field]!r}")
    return NAMMConfig(**content)


def _download(repo_id: str, known: Iterable[str]) -> tuple[Path, Path]:
    import huggingface_hub

    try:
        config, tensors = (
            Path(huggingface_hub.hf_hub_download(repo_id, name))
            for name in (CONFIG_FILE, TENSORS_FILE)
        )
    except _hub_errors() as error:
        raise UserError(
            f"there is no folder {repo_id}, and the Hugging Face Hub gives no NAMM of that name "
            f"({_first_line(error)}); check the name and the connection, or use a shipped one: "
            f"{', '.join(_nearest(repo_id, known))}"
        ) from error
    return config, tensors


def _nearest(repo_id: str, known: Iterable[str]) -> list[str]:
    known = sorted(known)
    wanted = repo_id.split("/")[-1].removeprefix(_PREFIX)
    return get_close_matches(wanted, known, n=3, cutoff=0.5) or known


def push_to_hub(namm: NAMM, repo_id: str) -> str:
    """Upload both files and a model card, and return the repository's address.

    Raises:
        UserError: the hub refuses or cannot be reached.
    """
    import huggingface_hub

    with tempfile.TemporaryDirectory() as folder:
        save_namm(namm, folder)
        card = _CARD.format(repo_id=repo_id, config=namm.config)
        (Path(folder) / "README.md").write_text(card)
        try:
            address = huggingface_hub.create_repo(repo_id, exist_ok=True)
            huggingface_hub.upload_folder(repo_id=repo_id, folder_path=folder)
        except _hub_errors() as error:
            raise UserError(
                f"the Hugging Face Hub did not take {repo_id} ({_first_line(error)}); "
                "log in with `hf auth login` and check the name and the connection"
            ) from error
    return str(address)


def _hub_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub import errors

    # The base of HfHubHTTPError is that of the HTTP client in use, which changed its name.
    client_error = errors.HfHubHTTPError.__bases__[0]
    return (client_error, errors.EntryNotFoundError, errors.HFValidationError, OSError)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def import_original(path: str | Path) -> NAMM:
    """Read a `ckpt.pt` of the original implementation (SakanaAI/evo-memory).

    Takes the search distribution's mean and the frozen feature statistics. The scorer's width is
    told from the vector's length, with biases where 25 + 1 would fit both ways (3276 numbers).

    Raises:
        UserError: the file is missing, damaged, holds code, or is another kind of checkpoint.
    """
    state = _evolution_state(path)
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


def _evolution_state(path: str | Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, or is no checkpoint, and was not run; "
            "give a ckpt.pt written by the original implementation"
        ) from error
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}; check the path") from error
    except Exception as error:
        # on damaged bytes the unpickler fails in whatever way they lead it to
        raise UserError(f"{path} is cut or damaged; copy or download it again") from error
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

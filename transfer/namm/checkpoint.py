"""NAMMs on disk and on the Hugging Face Hub: `config.json` beside `namm.safetensors`, and a card.

Nothing here ever unpickles: a file from a stranger can at worst be refused.
"""

import re
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from transfer.arguments import typed
from transfer.checkpoints import shipped
from transfer.errors import UserError, unknown_name
from transfer.files import read_json, read_text, reading_tensors, replacing, write_json
from transfer.namm.config import NAMMConfig
from transfer.plugins import check_installed

CONFIG_FILE = "config.json"
TENSORS_FILE = "namm.safetensors"
#: In a folder, and as the Hub wants it.
CARD_FILE, HUB_CARD = "CARD.md", "README.md"
FORMAT = 1
_TENSORS = ("vector", "mean", "std")
_PREFIX = "namm-"

Saved = tuple[NAMMConfig, dict[str, Tensor], str | None]

#: How a card begins, as the Hub reads it.
CARD_HEAD = """---
library_name: namm-transfer
tags:
- kv-cache
- namm
---
"""
_CARD = """{head}# An evolved Neural Attention Memory Model

Prunes the KV cache of any transformer whose attention can be read: it scores every cached token
from the spectrogram of the attention the token receives, and tokens below 0 leave.

    from transfer import NAMM
    namm = NAMM.from_pretrained("{repo_id}")

Configuration: {config}.
"""


@typed
def save_namm(
    config: NAMMConfig, tensors: Mapping[str, Tensor], card: str | None, folder: str | Path
) -> None:
    """Write all files into `folder`, each whole or not at all; without a card there is none."""
    plain = {name: tensors[name].cpu().contiguous() for name in _TENSORS}
    with replacing(Path(folder) / TENSORS_FILE) as partial:
        save_file(plain, partial)
    write_json(Path(folder) / CONFIG_FILE, {"format": FORMAT, **asdict(config)})
    if card is None:
        # That of another NAMM.
        (Path(folder) / CARD_FILE).unlink(missing_ok=True)
    else:
        with replacing(Path(folder) / CARD_FILE) as partial:
            partial.write_text(card, encoding="utf-8")


@typed
def read_namm(name: str | Path) -> Saved:
    """What makes a NAMM, by shipped name, from a local folder or from the Hub, in this order.

    Returns:
        Its configuration, the tensors `vector`, `mean` and `std`, and its card, if it has one.

    Raises:
        UserError: there is none of that name, or its files are damaged.
    """
    name = str(name)
    known = _shipped()
    folder = _folder(name, known)
    if folder.is_file():
        raise UserError(
            f"{name} is a file; give the folder of a saved NAMM, or import an original ckpt.pt "
            "with `transfer import`"
        )
    if folder.is_dir():
        return _read(*(folder / name for name in (CONFIG_FILE, TENSORS_FILE, CARD_FILE)))
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        return _read(*_download(name, known))
    raise unknown_name("NAMM", name, known)


def namm_place(name: str | Path) -> str | Path:
    """What all spellings of one NAMM have in common: its folder; of one on the Hub, its name."""
    folder = _folder(str(name), _shipped())
    return folder.resolve() if folder.is_dir() else str(name)


def _folder(name: str, known: Mapping[str, Path]) -> Path:
    return known.get(name.removeprefix(_PREFIX), Path(name))


def _shipped() -> dict[str, Path]:
    return {name.removeprefix(_PREFIX): path for name, path in shipped(TENSORS_FILE).items()}


def _read(config_path: Path, tensors_path: Path, card_path: Path) -> Saved:
    if not tensors_path.is_file():
        raise UserError(f"{tensors_path} is missing; give a folder that a NAMM was saved to")
    with reading_tensors(tensors_path, "make or download it again"):
        tensors = load_file(tensors_path)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            raise UserError(
                f"{tensors_path} has a {name} of shape {tuple(tensor.shape)} and type "
                f"{str(tensor.dtype)[6:]}, not of floating point numbers; make or download it again"
            )
    if set(tensors) != set(_TENSORS):
        raise UserError(
            f"{tensors_path} holds {', '.join(sorted(tensors)) or 'nothing'} instead of "
            f"{', '.join(_TENSORS)}; give a folder that a NAMM was saved to"
        )
    try:
        config = _config(config_path, read_json(config_path))
    except UserError as error:
        raise UserError(f"{config_path.parent}: {error}") from error
    return config, tensors, read_text(card_path) if card_path.is_file() else None


def _config(path: Path, content: Any) -> NAMMConfig:
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
        if field in ("features", "scorer"):
            for name in value.split("+"):
                check_installed(path, name)
    return NAMMConfig(**content)


def _download(repo_id: str, known: Iterable[str]) -> tuple[Path, Path, Path]:
    """Where the files are now, of which the last may not be there."""
    import huggingface_hub

    try:
        config, tensors = (
            Path(huggingface_hub.hf_hub_download(repo_id, name))
            for name in (CONFIG_FILE, TENSORS_FILE)
        )
        with suppress(huggingface_hub.errors.EntryNotFoundError):
            huggingface_hub.hf_hub_download(repo_id, HUB_CARD)
    except _hub_errors() as error:
        raise UserError(
            f"there is no folder {repo_id}, and the Hugging Face Hub gives no NAMM of that name "
            f"({_first_line(error)}); check the name and the connection, or use a shipped one: "
            f"{', '.join(_nearest(repo_id, known))}"
        ) from error
    return config, tensors, config.with_name(HUB_CARD)


def _nearest(repo_id: str, known: Iterable[str]) -> list[str]:
    known = sorted(known)
    wanted = repo_id.split("/")[-1].removeprefix(_PREFIX)
    return get_close_matches(wanted, known, n=3, cutoff=0.5) or known


def push_namm(
    config: NAMMConfig, tensors: Mapping[str, Tensor], card: str | None, repo_id: str
) -> str:
    """Upload the files and the card, or a plain one, and return the repository's address.

    Raises:
        UserError: the hub refuses or cannot be reached.
    """
    import huggingface_hub

    if card is None:
        card = _CARD.format(head=CARD_HEAD, repo_id=repo_id, config=config)
    with tempfile.TemporaryDirectory() as folder:
        save_namm(config, tensors, None, folder)
        told = card if card.startswith("---") else CARD_HEAD + card
        (Path(folder) / HUB_CARD).write_text(told, encoding="utf-8")
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

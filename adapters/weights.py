"""Whether a model is the one that something was made on: by its weights, not by its name or place.

Two models of one name may be two, as after more training, and one model may have two paths.
"""

import hashlib
from pathlib import Path

from transformers import PreTrainedModel

_SUFFIXES = (".safetensors", ".bin")
#: Bytes of a file that are read: this many whole, of more evenly spread pieces and both ends.
_WHOLE, _PIECES, _PIECE = 2**26, 1024, 2**14


def weights_digest(model: PreTrainedModel) -> str:
    """Of the files of weights it was loaded from, by what is in them; of a Hub model, its commit.

    Of files above 64 MiB it is 16 MiB that are read, spread over all tensors.
    """
    folder = Path(str(model.name_or_path))
    if not folder.is_dir():
        return f"{model.name_or_path} {model.config._commit_hash}"
    found = hashlib.sha256()
    for path in sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES):
        _add(found, path)
    return found.hexdigest()[:16]


def _add(found: "hashlib._Hash", path: Path) -> None:
    size = path.stat().st_size
    found.update(f"{size} ".encode())
    with path.open("rb") as file:
        if size <= _WHOLE:
            found.update(file.read())
            return
        for piece in range(_PIECES):
            file.seek(piece * (size - _PIECE) // (_PIECES - 1))
            found.update(file.read(_PIECE))

"""The ledger of a run: one JSON line a generation, on the disk before the next one begins.

It is all that a run has to keep: a search is brought back by telling it the ledger's fitnesses
again. A process that is killed leaves at most one line cut short, which is dropped. Each line ends
with a digest of itself and all lines before it, so that none is changed, moved, doubled or lost
between others unnoticed. Lines of earlier versions have none; no such line follows one that has.
"""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float64
from safetensors import SafetensorError

from transfer.errors import UserError
from transfer.files import append_line, content_digest, read_json_lines

#: A generation, or a part of it, as JSON.
Entry = dict[str, Any]
#: What a replay reads of a line.
_NEEDED = {"stage", "generation", "population", "fitness", "kept", "seconds", "validation"}


def packed(slope: Float64[np.ndarray, " params"]) -> str:
    """A slope as a line holds it, in single precision."""
    return b64encode(slope.astype("<f4").tobytes()).decode()


def unpacked(text: str | None) -> Float64[np.ndarray, " params"] | None:
    """The slope of a line; None where it has none."""
    return None if text is None else np.frombuffer(b64decode(text), "<f4").astype(np.float64)


class Ledger:
    """Appends entries to a file of JSON lines; opening it drops a last line that was cut.

    Args:
        path: of the file, made if missing.

    Attributes:
        entries: those that were there when it was opened.

    Raises:
        UserError: a line before the last is damaged, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries = read_ledger(path) if path.is_file() else []
        self._chain = ""
        for entry in self.entries:
            self._chain = content_digest([self._chain, entry])
        with saving(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        # What is cut off is no line, and would damage the next.
        if path.is_file():
            self._file.truncate(path.read_bytes().rfind(b"\n") + 1)

    def append(self, entry: Entry) -> None:
        """Add one entry; it is on the disk when this returns.

        Raises:
            UserError: the disk is full or gone. What was there before is kept.
        """
        self._chain = content_digest([self._chain, entry])
        line = json.dumps({**entry, "digest": self._chain}, allow_nan=False)
        with saving(self.path):
            append_line(self._file, line)
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_ledger(path: Path) -> list[Entry]:
    """The whole entries of a ledger; the file is left as it is.

    Raises:
        UserError: there is none, or a line is damaged, was changed or does not follow the one
            before it.
    """
    if not path.is_file():
        raise UserError(f"there is no ledger {path}; give the folder of a run of transfer evolve")

    def damaged(number: int, line: str) -> NoReturn:
        raise UserError(
            f"line {number} of {path} is damaged; remove it and all lines after it, and "
            f"--resume continues from generation {number - 1}"
        )

    entries: list[Entry] = []
    chain, sealed = "", False
    for number, entry in read_json_lines(path, damaged, cut=True).items():
        if not isinstance(entry, dict) or not entry.keys() >= _NEEDED:
            damaged(number, "")
        told = entry.pop("digest", None)
        chain, sealed = content_digest([chain, entry]), sealed or told is not None
        if sealed and told != chain:
            damaged(number, "")
        entries.append(entry)
    return entries


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn what a full or missing disk raises into one sentence about `path`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot write {path}: {cause}; make room and repeat the command with --resume, all "
            "finished generations are kept"
        ) from error

"""The ledger of a run: one JSON line a generation, on the disk before the next one begins.

It is all that a run has to keep: a search is brought back by telling it the ledger's fitnesses
again. A process that is killed leaves at most one line cut short, which is dropped.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError

from transfer.errors import UserError
from transfer.files import read_json_lines

#: A generation, or a part of it, as JSON.
Entry = dict[str, Any]


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
        line = json.dumps(entry, allow_nan=False) + "\n"
        with saving(self.path):
            self._file.write(line.encode())
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
        UserError: there is none, or a line before the last is damaged.
    """
    if not path.is_file():
        raise UserError(f"there is no ledger {path}; give the folder of a run of transfer evolve")

    def damaged(number: int, line: str) -> NoReturn:
        raise UserError(
            f"line {number} of {path} is damaged; remove it and all lines after it, and "
            f"--resume continues from generation {number - 1}"
        )

    return list(read_json_lines(path, damaged, cut=True).values())


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

"""The ledger of a run: one JSON line a generation, on the disk before the next one begins.

It is all that a run has to keep: a search is brought back by telling it the ledger's fitnesses
again. A process that is killed leaves at most one line cut short, which is dropped.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from transfer.errors import UserError

Record = dict[str, Any]


class Ledger:
    """Appends records to a file of JSON lines; opening it drops a last line that was cut.

    Args:
        path: of the file, made if missing.

    Attributes:
        records: those that were there when it was opened.

    Raises:
        UserError: a line before the last is damaged, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records, whole = _whole_records(path)
        with saving(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        if whole < self._file.tell():
            self._file.truncate(whole)

    def append(self, record: Record) -> None:
        """Add one record; it is on the disk when this returns.

        Raises:
            UserError: the disk is full or gone. What was there before is kept.
        """
        line = json.dumps(record, allow_nan=False) + "\n"
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


def read_ledger(path: Path) -> list[Record]:
    """The whole records of a ledger; the file is left as it is.

    Raises:
        UserError: there is none, or a line before the last is damaged.
    """
    if not path.is_file():
        raise UserError(f"there is no ledger {path}; give the folder of a run of transfer evolve")
    return _whole_records(path)[0]


def _whole_records(path: Path) -> tuple[list[Record], int]:
    """Records of a ledger, and how many bytes they take."""
    records: list[Record] = []
    whole = 0
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            if number < len(lines):
                raise UserError(
                    f"line {number} of {path} is damaged; remove it and all lines after it, and "
                    f"--resume continues from generation {number - 1}"
                ) from error
            break
        if not line.endswith(b"\n"):
            break
        records.append(record)
        whole += len(line)
    return records, whole


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

"""The folder of a video run, which goes on where an earlier run into it was ended."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from transfer.errors import UserError
from transfer.evaluation.results import ResultFolder, Row, versions
from transfer.files import read_json, replacing, write_json

SETTINGS_FILE = "settings.json"


class ResumedFolder(ResultFolder):
    """Writes one run into `folder`, after the questions that an earlier run there has finished.

    Args:
        folder: None: nothing is written.
        settings: what decides the results; an earlier run must have had the same.
        readers: rows of a finished question.
        digests: of the records by the names of their questions; rows of a record that has changed
            or is gone are dropped.

    Attributes:
        earlier: rows of the questions that are finished.

    Raises:
        UserError: on entering, the folder cannot be written to, or holds a run of another kind or
            with other settings.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: Mapping[str, Any],
        readers: int,
        digests: Mapping[str, str],
    ) -> None:
        super().__init__(folder)
        # As they will be read back: tuples are lists there.
        self._settings = json.loads(json.dumps({**settings, "versions": versions()}))
        self._readers, self._digests = readers, digests
        self.earlier: list[Row] = []

    def __enter__(self) -> "ResumedFolder":
        super().__enter__()
        return self

    def extend(self, rows: Sequence[Row]) -> None:
        """Add the rows of a question; they are on their way to the disk when this returns."""
        if self._rows is not None:
            self._rows.write("".join(map(_line, rows)))
            self._rows.flush()

    def _open(self, path: Path) -> TextIO:
        self._compare_settings(path)
        self.earlier = self._finished(path) if path.is_file() else []
        with replacing(path) as partial:
            partial.write_text("".join(map(_line, self.earlier)), encoding="utf-8")
        return path.open("a", encoding="utf-8")

    def _compare_settings(self, rows: Path) -> None:
        path = rows.parent / SETTINGS_FILE
        if not path.is_file():
            if rows.is_file():
                raise _other_kind(rows.parent)
            write_json(path, self._settings)
            return
        theirs = read_json(path)
        for name in dict.fromkeys([*self._settings, *theirs]):
            ours, other = self._settings.get(name), theirs.get(name)
            if ours != other:
                raise UserError(
                    f"{rows.parent} holds a run with {name} {other}, not {ours}; repeat its"
                    " settings to resume it, or choose another --out"
                )

    def _finished(self, path: Path) -> list[Row]:
        """Rows of the questions that every policy answered; the others are asked again."""
        rows = _read_lines(path)
        if not all("question" in row for row in rows):
            raise _other_kind(path.parent)
        rows = [row for row in rows if "failed" not in row and self._is_current(row)]
        answered = Counter(row["question"] for row in rows)
        return [row for row in rows if answered[row["question"]] == self._readers]

    def _is_current(self, row: Row) -> bool:
        return row.get("record", "") == self._digests.get(row["question"])


def _other_kind(folder: Path) -> UserError:
    return UserError(f"{folder} holds a run of another kind; choose another --out")


def _read_lines(path: Path) -> list[Row]:
    # Without its line break the last line was cut off by what ended the run.
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); remove it or choose another --out"
        ) from error


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"

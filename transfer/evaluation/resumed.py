"""The folder of a run that goes on where an earlier run into it was ended."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from transfer.errors import UserError
from transfer.evaluation.results import ResultFolder, Row, row_line
from transfer.files import read_json, replacing, write_json
from transfer.provenance import versions

SETTINGS_FILE = "settings.json"


class ResumedFolder(ResultFolder):
    """Writes one run into `folder`, after what an earlier run there has finished.

    Args:
        folder: None: nothing is written.
        settings: what decides the results; an earlier run must have had the same.
        names: a field that all rows of this kind of run have.
        finished: of the rows found, those that need not be made again.

    Attributes:
        earlier: rows that are finished.

    Raises:
        UserError: on entering, the folder cannot be written to, is being written to, or holds a
            run of another kind or with other settings.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: Mapping[str, Any],
        names: str,
        finished: Callable[[Sequence[Row]], list[Row]],
    ) -> None:
        super().__init__(folder)
        # As they will be read back: tuples are lists there.
        self._settings = json.loads(json.dumps({**settings, "versions": versions()}))
        self._names, self._finished = names, finished
        self.earlier: list[Row] = []

    def __enter__(self) -> "ResumedFolder":
        super().__enter__()
        return self

    def _open(self, path: Path) -> TextIO:
        self._compare_settings(path)
        if path.is_file():
            rows = read_rows(path)
            if not all(self._names in row for row in rows):
                raise _other_kind(path.parent)
            self.earlier = self._finished(rows)
        with replacing(path) as partial:
            partial.write_text("".join(map(row_line, self.earlier)), encoding="utf-8")
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


def read_rows(path: Path) -> list[Row]:
    """The whole lines of a `rows.jsonl`.

    Raises:
        UserError: a line before the last is damaged.
    """
    # Without its line break the last line was cut off by what ended the run.
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); remove it or choose another --out"
        ) from error


def _other_kind(folder: Path) -> UserError:
    return UserError(f"{folder} holds a run of another kind; choose another --out")

"""What every run of `transfer eval` leaves behind, and how it is written.

A folder holds `results.json` (command, versions, seeds, summary), `summary.csv` (the summary, flat)
and `rows.jsonl`, one line an episode, question or document, appended as each ends, so that a run
that is killed keeps what it did.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from transfer.errors import UserError
from transfer.files import locked, read_json, replacing, write_json

SUMMARY_FIELDS = (
    "model", "task", "policy", "budget", "metric", "n", "mean", "low", "high",
    "delta_vs_full", "delta_low", "delta_high", "kept", "cache_bytes", "full_bytes", "seconds",
)  # fmt: skip

Row = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Everything a run found.

    Args:
        command: the command line that repeats it.
        versions: of Python, the packages that compute, and the environment where there is one.
        seeds: of the episodes, questions or documents.
        summary: one entry a policy and setting, each with at least `SUMMARY_FIELDS`.
        rows: one entry an episode, question or document.
        interrupted: the run was stopped; summary and rows cover what had ended by then.
    """

    command: str
    versions: Mapping[str, str]
    seeds: Sequence[int]
    summary: Sequence[Row]
    rows: Sequence[Row] = field(repr=False)
    interrupted: bool = False

    def __post_init__(self) -> None:
        for entry in self.summary:
            missing = [name for name in SUMMARY_FIELDS if name not in entry]
            if missing:
                raise ValueError(f"a summary entry lacks {', '.join(missing)}")

    def as_json(self) -> Row:
        """The content of `results.json`."""
        return {
            "command": self.command,
            "versions": dict(self.versions),
            "seeds": list(self.seeds),
            "interrupted": self.interrupted,
            "summary": [dict(entry) for entry in self.summary],
        }


class ResultFolder:
    """Writes one run into `folder`, which it holds alone; without a folder it writes nothing.

    Entering makes the folder and starts `rows.jsonl` anew, before anything is computed; results
    of an earlier run there are replaced.

    Raises:
        UserError: on entering, the folder cannot be made or written to, or another run is writing
            into it.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._rows: TextIO | None = None
        self._held = ExitStack()

    def __enter__(self) -> "ResultFolder":
        if self.folder is None:
            return self
        with ExitStack() as held:
            held.enter_context(locked(self.folder))
            try:
                self._rows = held.enter_context(self._open(self.folder / "rows.jsonl"))
            except OSError as error:
                raise UserError(
                    f"cannot write results into {self.folder}: {error.strerror}; "
                    "choose a folder you may write to"
                ) from error
            self._held = held.pop_all()
        # Summaries of an earlier run must not lie beside the rows of this one.
        for name in ("results.json", "summary.csv"):
            (self.folder / name).unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def _open(self, path: Path) -> TextIO:
        return path.open("w", encoding="utf-8")

    def append(self, row: Row) -> None:
        """Add one line to `rows.jsonl`; it is on its way to the disk when this returns."""
        self.extend([row])

    def extend(self, rows: Sequence[Row]) -> None:
        """Add lines to `rows.jsonl`, all at once."""
        if self._rows is not None:
            self._rows.write("".join(map(row_line, rows)))
            self._rows.flush()

    def finish(self, results: Results) -> None:
        """Write `results.json` and `summary.csv`, each whole or not at all."""
        if self.folder is None:
            return
        write_json(self.folder / "results.json", results.as_json())
        with (
            replacing(self.folder / "summary.csv") as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            names = list(dict.fromkeys(name for entry in results.summary for name in entry))
            writer = csv.DictWriter(file, names or SUMMARY_FIELDS)
            writer.writeheader()
            writer.writerows(results.summary)


def row_line(row: Row) -> str:
    """A row as it is written."""
    return json.dumps(row, allow_nan=False) + "\n"


def read_results(folder: Path) -> Results:
    """Read back what `ResultFolder` wrote.

    Raises:
        UserError: the folder holds no finished run.
    """
    content = read_json(folder / "results.json")
    try:
        lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        return Results(rows=[json.loads(line) for line in lines], **content)
    except (OSError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder} does not hold the results of a run ({error}); "
            "name a folder that transfer eval --out wrote"
        ) from error

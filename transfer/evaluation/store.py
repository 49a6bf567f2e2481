"""What an evaluation leaves in its folder, and how a run that was stopped goes on there.

`settings.json` is what decides the results; `rows.jsonl` has a line for each item and contender,
appended as each ends; `blocks.jsonl` a line for each contender that has ended a block; at the end
come `results.json` (command, versions, summary) and `summary.csv`. A block decides last digits, so
one that had not ended, or in which an item failed, is computed again as a whole.
"""

import csv
import json
from collections.abc import Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.evaluation.options import Budget
from transfer.files import locked, read_json_lines, read_json_object, replacing, write_json

SETTINGS_FILE, ROWS_FILE, BLOCKS_FILE = "settings.json", "rows.jsonl", "blocks.jsonl"
RESULTS_FILE, SUMMARY_FILE = "results.json", "summary.csv"
#: What every entry of a summary says.
SUMMARY_FIELDS = (
    "model", "task", "policy", "budget", "metric", "n", "failed", "mean", "low", "high",
    "delta_vs_full", "delta_low", "delta_high", "kept", "kept_tokens", "cache_bytes",
    "peak_bytes", "full_bytes", "seconds",
)  # fmt: skip

#: One line of `rows.jsonl`: an item under a contender; or an entry of a summary.
Row = dict[str, Any]
#: A block and who ended it.
Ended = tuple[str, str, Budget]
_ENDED = ("block", "policy", "budget")


@dataclass(frozen=True)
class Results:
    """Everything a run found.

    Args:
        kind: language, video, control or suite; of a benchmark from outside, its own.
        command: the command line that repeats it.
        versions: of Python, the packages that compute, and the environment where there is one.
        metrics: of the summary; the first is the one that counts.
        keys: fields of entries that tell what was asked, beside the task.
        summary: one entry a task, contender and metric, each with at least `SUMMARY_FIELDS`.
        rows: one entry an item and contender.
        interrupted: the run was stopped; summary and rows cover what had ended by then.
    """

    kind: str
    command: str
    versions: Mapping[str, str]
    metrics: Sequence[str]
    keys: Sequence[str]
    summary: Sequence[Row]
    rows: Sequence[Row] = field(repr=False)
    interrupted: bool = False

    def __post_init__(self) -> None:
        for entry in self.summary:
            missing = [name for name in SUMMARY_FIELDS if name not in entry]
            if missing:
                raise ValueError(f"a summary entry lacks {', '.join(missing)}")

    @property
    def failures(self) -> list[str]:
        """Which items failed and why, each reason once."""
        failed = [row for row in self.rows if row["failure"] is not None]
        return list(dict.fromkeys(f"{row['item']}: {row['failure']}" for row in failed))

    @property
    def lost(self) -> list[str]:
        """Policies of which every item failed."""
        everyone = dict.fromkeys(row["policy"] for row in self.rows)
        whole = {row["policy"] for row in self.rows if row["failure"] is None}
        return [policy for policy in everyone if policy not in whole]

    def as_json(self) -> Row:
        """The content of `results.json`."""
        return {
            "kind": self.kind,
            "command": self.command,
            "versions": dict(self.versions),
            "metrics": list(self.metrics),
            "keys": list(self.keys),
            "interrupted": self.interrupted,
            "summary": [dict(entry) for entry in self.summary],
        }


class Store:
    """Writes one run into `folder`, which it holds alone, after what an earlier run has finished.

    Args:
        folder: made on entering; None: nothing is written.
        settings: what decides the results; an earlier run must have had the same.
        items: of every block and contender of this run; rows of others are dropped.

    Attributes:
        ended: blocks whose rows are all there, each once, with who ended them.
        rows: of those blocks, then what is added.

    Raises:
        UserError: on entering, the folder cannot be made or written to, another run is writing
            into it, or it holds a run with other settings.
    """

    def __init__(
        self, folder: Path | None, settings: Mapping[str, Any], items: Mapping[Ended, Set[Any]]
    ) -> None:
        self.folder, self._items = folder, items
        # As they will be read back: tuples are lists there.
        self._settings = json.loads(json.dumps(settings, default=str))
        self.ended: dict[Ended, None] = {}
        self.rows: list[Row] = []
        self._files: dict[str, TextIO] = {}
        self._held = ExitStack()

    def __enter__(self) -> "Store":
        if self.folder is None:
            return self
        with ExitStack() as held:
            held.enter_context(locked(self.folder))
            try:
                self._resume(self.folder)
                for name in (ROWS_FILE, BLOCKS_FILE):
                    file = (self.folder / name).open("a", encoding="utf-8")
                    self._files[name] = held.enter_context(file)
            except OSError as error:
                raise UserError(
                    f"cannot write results into {self.folder}: {error.strerror}; "
                    "choose a folder you may write to"
                ) from error
            self._held = held.pop_all()
        # Summaries of an earlier run must not lie beside the rows of this one.
        for name in (RESULTS_FILE, SUMMARY_FILE):
            (self.folder / name).unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()
        self._files.clear()

    def add(self, row: Row) -> None:
        """Add a row; it is on its way to the disk when this returns."""
        self.rows.append(row)
        self._write(ROWS_FILE, row)

    def end(self, ended: Ended) -> None:
        """Note that all rows of a block and contender are there, and that none failed."""
        self.ended[ended] = None
        self._write(BLOCKS_FILE, _named(ended))

    def finish(self, results: Results) -> None:
        """Write `results.json` and `summary.csv`, each whole or not at all."""
        if self.folder is not None:
            write_results(self.folder, results)

    def _write(self, name: str, content: Row) -> None:
        if name in self._files:
            self._files[name].write(json_line(content))
            self._files[name].flush()

    def _resume(self, folder: Path) -> None:
        self._compare_settings(folder)
        blocks = [folder / name for name in (BLOCKS_FILE, ROWS_FILE)]
        lines, rows = map(_of_blocks, blocks)
        found: dict[Ended, dict[Any, Row]] = {ended_by(line): {} for line in lines}
        for row in rows:
            found.get(ended_by(row), {}).setdefault(row.get("item"), row)
        whole = {each: own for each, own in found.items() if self._items.get(each) == own.keys()}
        self.ended = dict.fromkeys(whole)
        self.rows = [row for own in whole.values() for row in own.values()]
        for path, kept in zip(blocks, (map(_named, self.ended), self.rows)):
            with replacing(path) as partial:
                partial.write_text("".join(map(json_line, kept)), encoding="utf-8")

    def _compare_settings(self, folder: Path) -> None:
        path = folder / SETTINGS_FILE
        if not path.is_file():
            if (folder / ROWS_FILE).is_file() or (folder / RESULTS_FILE).is_file():
                raise _other_kind(folder)
            write_json(path, self._settings)
            return
        theirs = read_json_object(path)
        if theirs.get("kind") != self._settings["kind"]:
            raise _other_kind(folder)
        for name in dict.fromkeys([*self._settings, *theirs]):
            ours, other = self._settings.get(name), theirs.get(name)
            # One token, 1, is not all of them, 1.0.
            if json.dumps(ours) != json.dumps(other):
                raise UserError(
                    f"{folder} holds a run with {name} {other}, not {ours}; repeat its"
                    " settings to resume it, or choose another --out"
                )


def write_results(folder: Path, results: Results) -> None:
    """Write `results.json` and `summary.csv`, each whole or not at all."""
    write_json(folder / RESULTS_FILE, results.as_json())
    with (
        replacing(folder / SUMMARY_FILE) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        names = list(dict.fromkeys(name for entry in results.summary for name in entry))
        writer = csv.DictWriter(file, names or SUMMARY_FIELDS)
        writer.writeheader()
        writer.writerows(results.summary)


@typed
def read_results(folder: Path) -> Results:
    """Read back what a run has written.

    Raises:
        UserError: the folder holds no finished run, or one of an earlier version of this package.
    """
    content = read_json_object(folder / RESULTS_FILE)
    if "kind" not in content:
        raise UserError(
            f"{folder} was written by an earlier version of this package, whose results are read"
            " by that version alone; run its command again with another --out"
        )
    try:
        path = folder / ROWS_FILE
        return Results(rows=read_lines(path) if path.is_file() else [], **content)
    except (OSError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder} does not hold the results of a run ({error}); "
            "name a folder that transfer eval --out wrote"
        ) from error


def json_line(row: Row) -> str:
    """A row as it is written."""
    return json.dumps(row, allow_nan=False) + "\n"


def read_lines(path: Path) -> list[Row]:
    """The whole lines of a file of rows; a last one that was cut off by what ended the run is not.

    Raises:
        UserError: another line is damaged.
    """

    def damaged(number: int, line: str) -> None:
        raise UserError(f"line {number} of {path} is damaged; remove it or choose another --out")

    lines = read_json_lines(path, damaged, cut=True)
    for number, line in lines.items():
        if not isinstance(line, dict) or not all(map(_is_plain, map(line.get, _ENDED))):
            damaged(number, "")
    return list(lines.values())


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _of_blocks(path: Path) -> list[Row]:
    """The lines of a file, if it is there, that say their block and who ended it."""
    rows = read_lines(path) if path.is_file() else []
    return [row for row in rows if row.keys() >= {*_ENDED}]


def ended_by(row: Row) -> Ended:
    """The block and contender that a row is part of."""
    return row["block"], row["policy"], row["budget"]


def _named(ended: Ended) -> Row:
    return dict(zip(_ENDED, ended))


def _other_kind(folder: Path) -> UserError:
    return UserError(f"{folder} holds a run of another kind; choose another --out")

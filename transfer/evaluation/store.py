"""What an evaluation leaves in its folder, and how a run that was stopped goes on there.

`settings.json` is what decides the results; `rows.jsonl` has a line for each item and contender,
appended as each ends; `blocks.jsonl` a line for each contender that has ended a block, with the
number and a digest of its rows; at the end come `results.json` (command, versions, summary, and a
digest of itself and the rows) and `summary.csv`, and predictions for answers that are withheld
(`submission-*.json`).

A block decides last digits, so one that had not ended, in which an item failed, or of which a row
is missing, is computed again as a whole; so is one that an earlier version ended without a digest.
A last line that was cut ended with its writer and counts as missing. Rows that are doubled, were
changed, or are of no item of the run are refused: somebody has to say what they are.
"""

import csv
import json
from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import Any

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.evaluation.options import Budget
from transfer.files import (
    append_line,
    content_digest,
    locked,
    read_json_lines,
    read_json_object,
    replacing,
    write_json,
)

SETTINGS_FILE, ROWS_FILE, BLOCKS_FILE = "settings.json", "rows.jsonl", "blocks.jsonl"
RESULTS_FILE, SUMMARY_FILE = "results.json", "summary.csv"
#: How names of files begin that a benchmark adds to these.
ADDED = "submission-"
#: What every entry of a summary says.
SUMMARY_FIELDS = (
    "model", "task", "policy", "budget", "metric", "n", "failed", "mean", "low", "high",
    "delta_vs_full", "delta_low", "delta_high", "kept", "kept_tokens", "cache_bytes",
    "peak_bytes", "full_bytes", "seconds",
)  # fmt: skip
#: What rows and summaries say of what is held over time, see `transfer.evaluation.held`.
HELD_FIELDS = (
    "held_mean", "held_mean_share", "held_peak", "held_peak_share", "held_end", "bytes_mean",
)  # fmt: skip

#: One line of `rows.jsonl`: an item under a contender; or an entry of a summary.
Row = dict[str, Any]
#: A block and who ended it.
Ended = tuple[str, str, Budget]
_ENDED = ("block", "policy", "budget")
#: What is told of the rows of a block that has ended.
_SEAL = ("rows", "digest")
#: Its results have rows of many folders, and none in its own.
SUITE = "suite"


@dataclass(frozen=True)
class Results:
    """Everything a run found.

    Args:
        kind: language, video, control or suite; of a benchmark from outside, its own.
        command: the command line that repeats it.
        versions: of Python, the packages that compute, and the environment where there is one.
        computed: the numbers (dtype) and the device that the model computed in and on.
        metrics: of the summary; the first is the one that counts.
        keys: fields of entries that tell what was asked, beside the task.
        summary: one entry a task, contender and metric, each with at least `SUMMARY_FIELDS`.
        rows: one entry an item and contender.
        interrupted: the run was stopped; summary and rows cover what had ended by then.
        lost: policies of which every item failed.
        notes: sentences that stand under the tables.
    """

    kind: str
    command: str
    versions: Mapping[str, str]
    metrics: Sequence[str]
    keys: Sequence[str]
    summary: Sequence[Row]
    rows: Sequence[Row] = field(repr=False)
    interrupted: bool = False
    lost: Sequence[str] = field(default_factory=list)
    computed: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = field(default_factory=list)

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

    def as_json(self) -> Row:
        """The content of `results.json`."""
        content = {
            "kind": self.kind,
            "command": self.command,
            "versions": dict(self.versions),
            "computed": dict(self.computed),
            "metrics": list(self.metrics),
            "keys": list(self.keys),
            "interrupted": self.interrupted,
            "lost": list(self.lost),
            "notes": list(self.notes),
            "summary": [dict(entry) for entry in self.summary],
        }
        return {**content, "digest": _digest_of(content, self.rows)}


def _digest_of(content: Row, rows: Sequence[Row]) -> str:
    """Of a summary and its rows, in whichever order they came."""
    own = [] if content["kind"] == SUITE else sorted(map(json.dumps, rows))
    return content_digest([content, own])


def lost_policies(rows: Sequence[Row]) -> list[str]:
    """Those of which every item failed."""
    everyone = dict.fromkeys(row["policy"] for row in rows)
    whole = {row["policy"] for row in rows if row["failure"] is None}
    return [policy for policy in everyone if policy not in whole]


class Store:
    """Writes one run into `folder`, which it holds alone, after what an earlier run has finished.

    Args:
        folder: made on entering; None: nothing is written.
        settings: what decides the results; an earlier run must have had the same.
        items: of every block and contender of this run.
        dated: see `transfer.evaluation.benchmark.Benchmark`.

    Attributes:
        ended: blocks whose rows are all there, each once, with who ended them.
        rows: of those blocks, then what is added.

    Raises:
        UserError: on entering, the folder cannot be made or written to, another run is writing
            into it, or it holds a run with other settings, or rows that are doubled, were changed
            or are of no item of this run.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: Mapping[str, Any],
        items: Mapping[Ended, Set[Any]],
        dated: bool = False,
    ) -> None:
        self.folder, self._items, self._dated = folder, items, dated
        # As they will be read back: tuples are lists there.
        self._settings = json.loads(json.dumps(settings, default=str))
        self.ended: dict[Ended, None] = {}
        self.rows: list[Row] = []
        self._running: dict[Ended, list[Row]] = {}
        self._files: dict[str, RawIOBase] = {}
        self._held = ExitStack()

    def __enter__(self) -> "Store":
        if self.folder is None:
            return self
        with ExitStack() as held:
            held.enter_context(locked(self.folder))
            try:
                self._resume(self.folder)
                for name in (ROWS_FILE, BLOCKS_FILE):
                    file = (self.folder / name).open("ab", buffering=0)
                    self._files[name] = held.enter_context(file)
            except OSError as error:
                raise UserError(
                    f"cannot write results into {self.folder}: {error.strerror}; "
                    "choose a folder you may write to"
                ) from error
            self._held = held.pop_all()
        # Summaries of an earlier run must not lie beside the rows of this one.
        added = self.folder.glob(f"{ADDED}*.json")
        for path in (self.folder / RESULTS_FILE, self.folder / SUMMARY_FILE, *added):
            path.unlink(missing_ok=True)
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
        """Add a row; it is on its way to the disk when this returns.

        A block and contender has ended with its last row, if none of them failed.

        Raises:
            UserError: the disk is full or gone. What was there before is kept.
        """
        self.rows.append(row)
        self._write(ROWS_FILE, row)
        ended = ended_by(row)
        own = self._running.setdefault(ended, [])
        own.append(row)
        if len(own) == len(self._items[ended]) and not any(one["failure"] for one in own):
            self.ended[ended] = None
            self._write(BLOCKS_FILE, _named(ended) | self._seal(own))

    def _seal(self, rows: Collection[Row]) -> Row:
        """What is told of the rows of a block that has ended, under these settings.

        In their order, which may decide last digits.
        """
        return dict(zip(_SEAL, (len(rows), content_digest([self._settings, list(rows)]))))

    def finish(self, results: Results) -> None:
        """Write `results.json` and `summary.csv`, each whole or not at all."""
        if self.folder is not None:
            write_results(self.folder, results)

    def keep(self, files: Mapping[str, Any]) -> None:
        """Write JSON files beside them, each whole or not at all."""
        for name, content in files.items():
            if self.folder is not None:
                write_json(self.folder / name, content)

    def _write(self, name: str, content: Row) -> None:
        if name not in self._files:
            return
        try:
            append_line(self._files[name], _text(content))
        except OSError as error:
            raise UserError(
                f"cannot write {name} in {self.folder}: {error.strerror}; make room and repeat the "
                "command, what has ended is kept"
            ) from error

    def _resume(self, folder: Path) -> None:
        self._compare_settings(folder)
        found = self._found_rows(folder / ROWS_FILE)
        ended_lines: list[Row] = []
        for ended, (number, told) in self._found_ends(folder / BLOCKS_FILE).items():
            own = [row for _, row in found[ended].values()]
            if told is None or found[ended].keys() != self._items[ended]:
                continue
            if told != self._seal(own):
                raise _changed(folder, [line for line, _ in found[ended].values()], number)
            self.ended[ended] = None
            self.rows += own
            ended_lines.append(_named(ended) | told)
        for name, kept in ((BLOCKS_FILE, ended_lines), (ROWS_FILE, self.rows)):
            with replacing(folder / name) as partial:
                partial.write_text("".join(map(json_line, kept)), encoding="utf-8")

    def _compare_settings(self, folder: Path) -> None:
        path = folder / SETTINGS_FILE
        if not path.is_file():
            if any((folder / name).is_file() for name in (ROWS_FILE, BLOCKS_FILE, RESULTS_FILE)):
                raise UserError(
                    f"{folder} holds a run of another kind, or one that lost its {SETTINGS_FILE}; "
                    "put that back, or choose another --out"
                )
            write_json(path, self._settings)
            return
        theirs = read_json_object(path)
        if theirs.get("kind") != self._settings["kind"]:
            raise UserError(f"{folder} holds a run of another kind; choose another --out")
        for name in dict.fromkeys([*self._settings, *theirs]):
            ours, other = self._settings.get(name), theirs.get(name)
            # One token, 1, is not all of them, 1.0.
            if json.dumps(ours) != json.dumps(other):
                raise UserError(
                    f"{folder} holds a run with {name} {other}, not {ours}; repeat its"
                    " settings to resume it, or choose another --out"
                )

    def _found_rows(self, path: Path) -> dict[Ended, dict[Any, tuple[int, Row]]]:
        """The rows of every block and contender by their items, with the numbers of their lines."""
        found: dict[Ended, dict[Any, tuple[int, Row]]] = {ended: {} for ended in self._items}
        for number, row in self._asked(path).items():
            item, own = row.get("item"), found.get(ended_by(row), {})
            if item not in self._items.get(ended_by(row), ()):
                raise _unasked(path, number, row)
            if item in own:
                raise _repeated(path, number, own[item][0])
            own[item] = number, row
        return found

    def _asked(self, path: Path) -> dict[int, Row]:
        """The lines of a file, without those of data that changed since."""
        blocks, lines = {block for block, *_ in self._items}, _numbered(path)
        if not self._dated:
            return lines
        return {number: line for number, line in lines.items() if line["block"] in blocks}

    def _found_ends(self, path: Path) -> dict[Ended, tuple[int, Row | None]]:
        """What was told of the rows of those that ended, with the numbers of their lines."""
        found: dict[Ended, tuple[int, Row | None]] = {}
        for number, line in self._asked(path).items():
            ended = ended_by(line)
            if ended not in self._items:
                raise _unasked(path, number, line)
            if ended in found:
                raise _repeated(path, number, found[ended][0])
            told = {name: line[name] for name in _SEAL if name in line}
            found[ended] = number, told if len(told) == len(_SEAL) else None
        return found


def _unasked(path: Path, number: int, row: Row) -> UserError:
    item = f"item {row['item']!r} of " if "item" in row else ""
    return UserError(
        f"line {number} of {path} is of {item}block {row['block']!r} under {row['policy']!r} "
        f"with budget {row['budget']}, which this run does not ask; remove it or choose another"
        " --out"
    )


def _repeated(path: Path, number: int, first: int) -> UserError:
    return UserError(
        f"line {number} of {path} repeats what line {first} is of; remove one of them or choose "
        "another --out"
    )


def _changed(folder: Path, lines: Sequence[int], ended: int) -> UserError:
    return UserError(
        f"lines {min(lines)} to {max(lines)} of {folder / ROWS_FILE} are not the rows of which line"
        f" {ended} of {BLOCKS_FILE} tells the number and digest, or not of these settings; remove "
        "that line to run them again, or choose another --out"
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
        UserError: the folder holds no finished run, one whose results or rows were changed since,
            or one of an earlier version of this package.
    """
    if (folder / SETTINGS_FILE).is_file() and not (folder / RESULTS_FILE).is_file():
        raise UserError(f"{folder} holds a run that was stopped; repeat its command to go on")
    if not (folder / RESULTS_FILE).is_file():
        raise UserError(f"{folder} holds no {RESULTS_FILE}; name a folder that an --out named")
    content, path = read_json_object(folder / RESULTS_FILE), folder / ROWS_FILE
    told = content.pop("digest", None)
    if told is None or "kind" not in content:
        raise UserError(
            f"{folder} was written by an earlier version of this package, whose results are read"
            " by that version alone; run its command again with another --out"
        )
    rows = read_lines(path) if path.is_file() else []
    if told != _digest_of(content, rows):
        raise UserError(
            f"{folder} does not hold the results of a run as they were written: {RESULTS_FILE} or "
            f"{ROWS_FILE} was changed since; repeat its command, or name another folder"
        )
    return Results(rows=rows, **content)


def json_line(row: Row) -> str:
    """A row as it is written."""
    return f"{_text(row)}\n"


def _text(row: Row) -> str:
    return json.dumps(row, allow_nan=False)


def read_lines(path: Path) -> list[Row]:
    """The whole lines of a file of rows; a last one that was cut off by what ended the run is not.

    Raises:
        UserError: another line is damaged.
    """
    return list(_numbered(path).values())


def _numbered(path: Path) -> dict[int, Row]:
    """The lines of a file by their numbers; none if it is not there."""

    def damaged(number: int, line: str) -> None:
        raise UserError(f"line {number} of {path} is damaged; remove it or choose another --out")

    lines = read_json_lines(path, damaged, cut=True) if path.is_file() else {}
    for number, line in lines.items():
        if not isinstance(line, dict) or not _is_named(line):
            damaged(number, "")
    return lines


def _is_named(line: Row) -> bool:
    """Whether it says a block and who was asked, and no item that cannot be looked up."""
    names = isinstance(line.get("block"), str) and isinstance(line.get("policy"), str)
    numbers = isinstance(line.get("budget", ""), int | float | None)
    return names and numbers and isinstance(line.get("item"), str | int | float | None)


def ended_by(row: Row) -> Ended:
    """The block and contender that a row is part of."""
    return row["block"], row["policy"], row["budget"]


def _named(ended: Ended) -> Row:
    return dict(zip(_ENDED, ended))

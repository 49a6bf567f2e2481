"""Reading the files of benchmarks: their rows, and what a row says."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from transfer.errors import UserError
from transfer.files import read_json, read_json_lines, read_text
from transfer.tasks.video.places import Folder, exists, locate
from transfer.tasks.video_records import LETTERS, NONE_RIGHT, BrokenRecord, VideoQuestion

T = TypeVar("T")
_INDEX = re.compile(r"-?\d{1,9}")


def read_rows(path: Path) -> list[Any]:
    """The rows of a file of JSON, JSON lines, comma-separated values or parquet.

    A line that is no JSON stays a text, for its record to be reported as broken.

    Raises:
        UserError: the file cannot be read, or holds no list.
    """
    readers = {".json": read_json, ".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UserError(f"{path} is of unknown kind; give a file of {', '.join(readers)}")
    return _read(path, readers[path.suffix], list)


def read_object(path: Path) -> dict[str, Any]:
    """A file that is one JSON object.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    return _read(path, read_json, dict)


def _read(path: Path, reader: Callable[[Path], Any], kind: type[T]) -> T:
    try:
        content = reader(path)
    # pyarrow's errors derive from ValueError and OSError too
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot read {path} ({error}); check the file") from error
    if not isinstance(content, kind):
        raise UserError(f"cannot read {path} (it is no {kind.__name__}); check the file")
    return content


def spread(items: Sequence[T], count: int | None) -> list[T]:
    """So many of the items, evenly over all of them; None or too many: all."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


@dataclass(frozen=True)
class Row:
    """One record as its file has it.

    Attributes:
        id: what its errors name it.
        fields: by name; anything else makes it a broken record.
        file: where it was read.
        folder: of the whole benchmark; None: not told.
    """

    id: str
    fields: Any
    file: Path
    folder: Folder | None = None

    def get(self, *names: str) -> Any:
        """The first of these fields that is there and not empty; None if none is."""
        values = (self.fields.get(name) for name in names)
        return next((value for value in values if value is not None and value != ""), None)

    def text(self, *names: str) -> str:
        """A text, or a number as one.

        Raises:
            UserError: it is missing or something else.
        """
        value = self.get(*names)
        if not isinstance(value, str | int | float):
            raise self.error(f"has no text {' or '.join(map(repr, names))}", "add it")
        return str(value).strip()

    def verbatim(self, name: str) -> str:
        """A text with the blanks at its ends, which may be all of it.

        Raises:
            UserError: it is missing or something else.
        """
        value = self.fields.get(name)
        return value if isinstance(value, str) else self.text(name)

    def located(self, folders: Sequence[str], names: Sequence[str], unique: bool = True) -> Path:
        """Where a file of this record lies, see `locate`; else anywhere in the folder.

        Args:
            folders: where to look first.
            names: most likely first.
            unique: the names alone tell the file; else it is looked for with its folder.

        Raises:
            UserError: a zip cannot be read.
        """
        path = locate(self.file, folders, names)
        if self.folder is None or exists(path):
            return path
        parents = [""] if unique else [f"{folder}/" for folder in folders]
        tails = [f"{parent}{name}" for parent in parents for name in names]
        return self.folder.find(tails) or path

    def number(self, *names: str) -> float | None:
        """A number of 0 or more, or None where the field is missing.

        Raises:
            UserError: it is something else.
        """
        value = self.get(*names)
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < float("inf"):
            raise self.error(f"has {names[0]!r} {value!r}", "use a number of 0 or more")
        return number

    def texts(self, *names: str) -> tuple[str, ...]:
        """A list of texts.

        Raises:
            UserError: it is missing or something else.
        """
        return tuple(text.strip() for text in self.verbatim_texts(*names))

    def verbatim_texts(self, *names: str) -> tuple[str, ...]:
        """A list of texts, with the blanks at their ends.

        Raises:
            UserError: it is missing or something else.
        """
        value = self.get(*names)
        if not isinstance(value, list | tuple):
            raise self.error(f"has no list {' or '.join(map(repr, names))}", "add it")
        if not all(isinstance(text, str | int | float) for text in value):
            raise self.error(f"has {names[0]!r} with something that is no text", "mend it")
        return tuple(map(str, value))

    def index(self, *names: str) -> int | None:
        """A whole number counted from 0; None where the field is missing.

        Raises:
            UserError: it is something else.
        """
        value = self.get(*names)
        if value is None:
            return None
        if isinstance(value, bool) or not _INDEX.fullmatch(str(value).strip()):
            raise self.error(f"has {names[0]!r} {value!r}", "give the index of an option, from 0")
        return int(value)

    def letter(self, name: str) -> int | None:
        """The option that a letter means; None where the field is missing.

        Raises:
            UserError: it is no letter of an option.
        """
        value = self.get(name)
        if value is None:
            return None
        letter = str(value).strip().rstrip(".").upper()
        if len(letter) != 1 or letter not in LETTERS:
            raise self.error(f"has {name!r} {value!r}", "give the letter of an option")
        return LETTERS.index(letter)

    def choice(self, name: str, options: Sequence[str]) -> int | None:
        """The option whose text the field repeats; None where the field is missing.

        Raises:
            UserError: it is none of them.
        """
        if self.get(name) is None:
            return None
        text = self.text(name)
        if text not in options:
            raise self.error(f"has {name!r} {text!r}, which is none of its options", "mend either")
        return options.index(text)

    def last_choice(self, name: str, options: Sequence[str]) -> int | None:
        """The last option whose text the field repeats, `NONE_RIGHT` if none is; None without it.

        So the code of MVBench and MLVU goes through the options.
        """
        if self.fields.get(name) is None:
            return None
        text = self.verbatim(name)
        fitting = (place for place, option in enumerate(options) if option == text)
        return max(fitting, default=NONE_RIGHT)

    def error(self, what: str, remedy: str) -> UserError:
        """What is wrong with this record, and what to do."""
        return UserError(f"record {self.id} {what}; {remedy}")


def identify(file: Path, rows: Iterable[Any], form: str = "{id}") -> Iterator[Row]:
    """Rows with ids made of their fields; of the file's name and their place where some lack."""
    for place, fields in enumerate(rows):
        known = fields.items() if isinstance(fields, Mapping) else ()
        try:
            name = form.format_map({key: value for key, value in known if value is not None})
        except KeyError:
            name = f"{file.stem}-{place}"
        yield Row(name, fields, file)


def convert(
    rows: Iterable[Row], question: Callable[[Row], VideoQuestion]
) -> list[VideoQuestion | BrokenRecord]:
    """Turn rows into questions; those that cannot be are broken records.

    Ids differ: a question whose id another one had before is broken.
    """
    rows, taken = list(rows), set[str]()
    given = {row.id for row in rows}
    return [_converted(place, row, question, taken, given) for place, row in enumerate(rows)]


def _converted(
    place: int,
    row: Row,
    question: Callable[[Row], VideoQuestion],
    taken: set[str],
    given: set[str],
) -> VideoQuestion | BrokenRecord:
    name = f"{row.id} (place {place})" if row.id in taken else row.id
    while name != row.id and name in given:
        name += "'"
    taken.add(row.id)
    try:
        if name != row.id:
            raise row.error("stands twice", "give each record an id of its own")
        if not isinstance(row.fields, Mapping):
            raise row.error("is no JSON object", "mend or delete it")
        return question(row)
    # Paths that are no paths raise OSError where files beside the video are looked for.
    except (UserError, OSError) as error:
        reason = str(error)
        named = reason.startswith(f"record {row.id} ")
        return BrokenRecord(name, reason if named else f"record {row.id}: {reason}")


def unlettered(options: Sequence[str]) -> tuple[str, ...]:
    """Options without the letters, "A. " or "(A) ", that all begin with; else as they are."""
    marks = [rf"\(?{letter}[.)]\s*" for letter in LETTERS[: len(options)]]
    if len(marks) < len(options) or not all(map(re.match, marks, options)):
        return tuple(options)
    return tuple(re.sub(mark, "", text, count=1) for mark, text in zip(marks, options))


def _json_lines(path: Path) -> list[Any]:
    return list(read_json_lines(path, lambda number, line: line).values())


def _csv(path: Path) -> list[Any]:
    return list(csv.DictReader(io.StringIO(read_text(path), newline="")))


def _parquet(path: Path) -> list[Any]:
    try:
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"{path} is a parquet file and pyarrow is not installed; run 'pip install pyarrow', or"
            " turn it into JSON lines"
        ) from error
    return parquet.read_table(path).to_pylist()

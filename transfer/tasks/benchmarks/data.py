"""The data of benchmarks as their authors publish them: JSON lines, JSON, Parquet, zipped or not.

They come from the user's folder or file or, where none is given, from the Hub. Of JSON lines and
Parquet only as much is read as is asked for; nothing is ever unpacked onto the disk.
"""

import codecs
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, cast
from zipfile import BadZipFile, ZipFile, ZipInfo

from transfer.errors import UserError
from transfer.files import MOST_TEXT, parse_json
from transfer.tasks.benchmarks.extra import needed
from transfer.tasks.reading import BrokenSample, Sample

#: Where a set of records may lie in a folder or a zip, the authors' own layouts first; several
#: files of one pattern are its parts.
_LAYOUTS = (
    "{}.jsonl",
    "{}.json",
    "{}.parquet",
    "{}-*-of-*.parquet",
    "{}/test-*.parquet",
    "{}/test/*.parquet",
    "{}/*.parquet",
)
#: What a record turns out to be.
Found = Sample | BrokenSample
#: Rows of Parquet that are held at once.
_ROWS = 16
_REMEDY = "download it again"
#: What reading a file or a zip raises where one is damaged; the last, where its names are.
_DAMAGE = (
    OSError,
    EOFError,
    BadZipFile,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    UnicodeDecodeError,
)


@dataclass(frozen=True)
class Published:
    """Where the authors publish their data.

    Attributes:
        repo: the data set's repository on the Hub.
        files: patterns of what is fetched of it.
    """

    repo: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """The fields of a record, each checked when it is asked for.

    Attributes:
        place: what errors call it, such as "line 3 of qasper.jsonl".
        fields: what it holds.
    """

    place: str
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field that is a text.

        Raises:
            UserError: it is missing or something else.
        """
        value = self._field(name)
        if not isinstance(value, str):
            raise self._other(name, "a text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that is a list of one text or more.

        Raises:
            UserError: it is missing or something else.
        """
        value = self._field(name)
        if not (isinstance(value, list) and value and all(isinstance(v, str) for v in value)):
            raise self._other(name, "a list of texts")
        return tuple(value)

    def count(self, name: str) -> int:
        """A field that is a whole number from 0.

        Raises:
            UserError: it is missing or something else.
        """
        value = self._field(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._other(name, "a whole number from 0")
        return value

    def one_of(self, name: str, known: Sequence[str]) -> str:
        """A field that is one of a few texts.

        Raises:
            UserError: it is missing or something else.
        """
        value = self._field(name)
        if value not in known:
            raise self._other(name, " or ".join(map(repr, known)))
        return value

    def name(self, name: str) -> str | int:
        """A field that tells the record from the others: a text that is not empty, or a number.

        Raises:
            UserError: it is missing or something else.
        """
        value = self._field(name)
        if not (isinstance(value, str | int) and value != "" and not isinstance(value, bool)):
            raise self._other(name, "a text or a whole number")
        return value

    def wrong(self, what: str) -> UserError:
        """The error for a record of which `what` is said."""
        return UserError(
            f"{self.place} {what}; give the data as their authors publish them, or mend it"
        )

    def _field(self, name: str) -> Any:
        if name not in self.fields:
            raise self.wrong(f"has no field {name!r} (it has {', '.join(map(repr, self.fields))})")
        return self.fields[name]

    def _other(self, name: str, wanted: str) -> UserError:
        shown = repr(self.fields[name])
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return self.wrong(f"has the {name} {shown}, not {wanted}")


def records(
    data: Path | None,
    name: str,
    published: Published,
    most: int | None = None,
    key: str | None = None,
) -> Iterator[Record]:
    """The records of a task, in the order of the data.

    Args:
        data: file, or folder or zip with it, that is called `name`; None: the Hub.
        name: of the file without its ending, such as "qasper" or "qa1/0k".
        published: where they come from if `data` is None.
        most: the first so many; None: all.
        key: field that tells a record from the others; None: there is none.

    Raises:
        UserError: there are none, a file is damaged or of another layout, or two records have the
            same `key`; the file and the record are named.
    """
    folder = _fetched(published) if data is None else data
    with _reading(folder):
        sources = _located(folder, name, published)
    places: dict[str | int, str] = {}
    read = 0
    for record in islice((r for source in sources for r in _read(source)), most):
        read += 1
        if key is not None:
            first = places.setdefault(record.name(key), record.place)
            if first != record.place:
                raise record.wrong(f"has the {key} of {first}, {record.name(key)!r}")
        yield record
    if not read and most != 0:
        raise UserError(f"{sources[0]} has no records; {_REMEDY}")


def asked(record: Record, make: Callable[[Record], Sample]) -> Found:
    """What is asked about a record, or why nothing can be.

    Args:
        record: with its fields.
        make: raises `UserError` where one is missing or something else.
    """
    try:
        return make(record)
    except UserError as error:
        return BrokenSample(record.place, str(error))


@dataclass(frozen=True)
class _Source:
    """A file, or one in a zip."""

    path: Path
    member: ZipInfo | None = None

    def __str__(self) -> str:
        return f"{self.member.filename} in {self.path}" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        return Path(self.member.filename if self.member else self.path).suffix.lower()


def _fetched(published: Published) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                published.repo, repo_type="dataset", allow_patterns=list(published.files)
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"the data set {published.repo!r} could not be fetched from the Hugging Face Hub "
            f"({type(error).__name__}); check the connection, or give a copy of it as --data"
        ) from error


def _located(data: Path, name: str, published: Published) -> list[_Source]:
    if data.is_file() and data.suffix.lower() == ".zip":
        sources = _zipped(data, name)
    elif data.is_file():
        if not _called(data, name):
            raise UserError(
                f"{data} is not called {name}, as the data of that task are; give their own file, "
                "or rename it if it holds them"
            )
        sources = [_Source(data)]
    elif data.is_dir():
        sources = _in_folder(data, name) or _in_folder(data / "data", name)
        archives = iter(sorted(data.glob("*.zip")))
        while not sources and (archive := next(archives, None)):
            sources = _zipped(archive, name)
    else:
        raise UserError(f"there is no file or folder {data}; check --data")
    if not sources:
        raise UserError(
            f"{data} has no {name}.jsonl, nor the same as .json, .parquet or in a zip; give the "
            f"data as their authors publish them (https://huggingface.co/datasets/{published.repo})"
        )
    return sources


def _called(file: Path, name: str) -> bool:
    """Whether a file has a name, whatever its ending, or lies where a folder has it."""
    layouts = (layout.format(name) for layout in _LAYOUTS)
    return file.stem == name or any(map(file.absolute().match, layouts))


def _in_folder(folder: Path, name: str) -> list[_Source]:
    for layout in _LAYOUTS:
        found = sorted(p for p in folder.glob(layout.format(name)) if p.is_file())
        if shown := [path for path in found if not path.name.startswith(".")]:
            return [_Source(path) for path in shown]
    return []


def _zipped(archive: Path, name: str) -> list[_Source]:
    with _reading(archive), ZipFile(archive) as file:
        members = {
            PurePosixPath(member.filename): member
            for member in sorted(file.infolist(), key=lambda member: member.filename)
        }
    for layout in _LAYOUTS:
        pattern = layout.format(name)
        found = [m for p, m in members.items() if p.match(pattern) and p.name[0] != "."]
        if len(found) > 1 and "*" not in pattern:
            raise UserError(
                f"{archive} has {' and '.join(m.filename for m in found)}; "
                "unpack it and give one folder"
            )
        if found:
            return [_checked(_Source(archive, member)) for member in found]
    return []


def _checked(source: _Source) -> _Source:
    member = source.member
    assert member is not None
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{source} would lie outside of the zip; {_REMEDY}")
    if member.file_size > MOST_TEXT:
        raise UserError(f"{source} has {member.file_size:,} bytes, more than {MOST_TEXT:,}")
    # The bit says that it is encrypted.
    if member.flag_bits & 1:
        raise UserError(f"{source} wants a password; unpack it and give the folder")
    return source


@contextmanager
def _reading(source: Path | _Source) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise UserError(
            f"cannot read {source} ({_cause(error)}); check it, or {_REMEDY}"
        ) from error


@contextmanager
def _opened(source: _Source) -> Iterator[BufferedIOBase]:
    with _reading(source):
        if source.member is None:
            with source.path.open("rb") as file:
                yield file
        else:
            with ZipFile(source.path) as archive, archive.open(source.member) as file:
                yield cast(BufferedIOBase, file)


def _read(source: _Source) -> Iterator[Record]:
    with _opened(source) as file:
        rows = _parquet if source.suffix == ".parquet" else _json
        for place, content in rows(file, source):
            if not isinstance(content, dict):
                raise UserError(f"{place} is no JSON object with fields; mend or delete it")
            yield Record(place, content)


def _json(file: BufferedIOBase, source: _Source) -> Iterator[tuple[str, Any]]:
    """JSON lines or, where the first begins one, a list: endings do not tell them apart."""
    lists = True
    for number, line in enumerate(iter(lambda: file.readline(MOST_TEXT + 1), b""), 1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        if lists and line.lstrip().startswith(b"["):
            whole = _parsed(line + file.read(MOST_TEXT + 1 - len(line)), str(source))
            yield from ((f"record {n} of {source}", each) for n, each in enumerate(whole, 1))
            return
        lists = False
        place = f"line {number} of {source}"
        yield place, _parsed(line, place)


def _parsed(content: bytes, place: str) -> Any:
    if len(content) > MOST_TEXT:
        raise UserError(f"{place} has more than {MOST_TEXT:,} bytes; check the path")
    try:
        return parse_json(content.decode())
    except ValueError as error:
        raise UserError(f"{place} is not valid JSON ({error}); {_REMEDY}") from error


def _parquet(file: BufferedIOBase, source: _Source) -> Iterator[tuple[str, Any]]:
    arrow, parquet = needed("pyarrow"), needed("pyarrow.parquet")
    if source.member is not None:
        # Parquet is read from its end, which a zip only reaches by unpacking the rest.
        file = BytesIO(file.read(MOST_TEXT))
    number = 0
    try:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield f"record {number} of {source}", row
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{source} is damaged after record {number} or no Parquet ({_cause(error)}); {_REMEDY}"
        ) from error


def _cause(error: Exception) -> str:
    told = getattr(error, "strerror", None) or str(error)
    return told.strip().partition("\n")[0].rstrip(".") or type(error).__name__

"""Files that are whole or absent (written under a temporary name, then renamed), and JSON."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from transfer.errors import UserError

#: Bytes of the longest text that is read; what is longer is no file of ours, or has no end.
MOST_TEXT = 2**30
#: Of a whole number: floats end there.
_MOST_DIGITS = 308
#: Of Windows' locks none ends with the process, and it opens no folder: there nothing is held.
_LOCKS = os.name == "posix"
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def cache_folder() -> Path:
    """Where this package keeps what it makes and can make again."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "transfer"


def check_writable(path: Path, what: str) -> None:
    """Refuse a file that could not be written, before the work that would fill it.

    Args:
        path: of the file.
        what: it is, in a word.

    Raises:
        UserError: the folder cannot be made or written to, or the path is a folder.
    """
    if path.is_dir():
        raise UserError(f"{what} {path} is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write {what} {path}: {error.strerror}; choose a folder you may write to"
        ) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` that becomes `path` when the block ends without error.

    Raises:
        UserError: the folder cannot be made or written to, or the disk is full; what was at `path`
            is still there.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=f".partial{path.suffix}"
        )
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; choose a folder you may write to"
        ) from error
    os.close(descriptor)
    partial = Path(name)
    try:
        with writing(path):
            yield partial
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.chmod(0o644)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a full or broken disk raises into one sentence about `path`.

    Raises:
        UserError: it does.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot write {path}: {cause}; make room there, and repeat the command"
        ) from error


@contextmanager
def reading_tensors(path: Path, remedy: str) -> Iterator[None]:
    """Turn what a broken safetensors file raises into one sentence about `path`.

    Raises:
        UserError: it does; `remedy` says what then.
    """
    try:
        yield
    # safetensors has errors of its own, and lets through those of types and sizes of torch.
    except (SafetensorError, OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
        raise UserError(f"{path} is cut or damaged ({error}); {remedy}") from error


@contextmanager
def locked(folder: Path | None, wait: bool = False) -> Iterator[bool]:
    """Hold a folder, made if absent, for one run; the system lets go however the run ends.

    Args:
        folder: None: nothing is held.
        wait: for another run that holds it.

    Yields:
        Whether it is held; only then is what lies there unfinished nobody's.

    Raises:
        UserError: another run holds it, or it cannot be made or read.
    """
    if folder is None:
        yield False
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY) if _LOCKS else None
    except OSError as error:
        raise UserError(
            f"cannot write results into {folder}: {error.strerror}; "
            "choose a folder you may write to"
        ) from error
    if descriptor is None:
        yield False
        return
    try:
        _hold(descriptor, folder, wait)
        remove_partial(folder)
        yield True
    finally:
        os.close(descriptor)


def _hold(descriptor: int, folder: Path, wait: bool) -> None:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        raise UserError(
            f"another run is writing into {folder}; wait for it, or choose another --out"
        ) from error


def remove_partial(folder: Path) -> None:
    """Remove what `replacing` left in a folder when it was killed; nobody else may write there."""
    # The second are those of safetensors, which writes beside the file it is given.
    for pattern in (".*.partial*", ".tmp??????"):
        for left in folder.glob(pattern):
            left.unlink()


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically. NaN and infinities are refused."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def parse_json(text: str) -> Any:
    """What JSON text says.

    Raises:
        ValueError: it is none, or says what nothing here could work with: a key twice, a number
            beyond every range, half a character, or lists nested without end.
    """
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_int=_whole)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if _HALF_CHARACTER.search(text):
        # Halves that belong together are a character; a lone one cannot be encoded.
        json.dumps(content, ensure_ascii=False).encode()
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(n for n in names if names.count(n) > 1)!r} twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


def read_text(path: str | Path) -> str:
    """A text file in UTF-8.

    Raises:
        UserError: it cannot be read, is too large for what it should hold, or is no text.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_TEXT + 1)
        if len(content) > MOST_TEXT:
            raise UserError(f"{path} has more than {MOST_TEXT:,} bytes; check the path")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check the file") from error
    except ValueError as error:
        raise UserError(f"cannot read {path} ({error}); check the file") from error


def append_line(file: RawIOBase, line: str) -> None:
    """Append a line to an unbuffered file: whole, or its beginning and an error."""
    left = f"{line}\n".encode()
    while left:
        left = left[file.write(left) :]


def content_digest(content: Any) -> str:
    """Of what JSON can say, to the last bit of every number."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def write_sealed(path: str | Path, content: dict[str, Any]) -> None:
    """`write_json` with a digest, by which `read_sealed` knows the content again."""
    write_json(path, {**content, "digest": content_digest(content)})


def read_sealed(path: str | Path, remedy: str) -> dict[str, Any]:
    """Read what `write_sealed` wrote; what earlier versions wrote has no digest and is taken so.

    Raises:
        UserError: the file is missing, is no JSON object, or was changed; `remedy` says what then.
    """
    content = read_json_object(path)
    told = content.pop("digest", None)
    if told is not None and told != content_digest(content):
        raise UserError(f"{path} was changed after it was written; {remedy}")
    return content


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); make or download it again") from error


def read_json_lines(
    path: str | Path, damaged: Callable[[int, str], Any] | None = None, cut: bool = False
) -> dict[int, Any]:
    """Read a file of JSON lines, of which empty ones do not count.

    Args:
        path: of the file.
        damaged: gets the number and the text of a line that is not JSON; raises, or says what
            stands for it.
        cut: leave out a last line without its line break, which ended with its writer.

    Returns:
        What each line holds, by its number from 1.

    Raises:
        UserError: the file cannot be read, or without `damaged`, a line is not JSON.
    """
    # Not `splitlines`: JSON may hold U+2028 and its like as they are.
    *lines, last = read_text(path).split("\n")
    values: dict[int, Any] = {}
    for number, line in enumerate([*lines, "" if cut else last], 1):
        if not line.strip():
            continue
        try:
            values[number] = parse_json(line)
        except ValueError as error:
            if damaged is None:
                raise UserError(
                    f"line {number} of {path} is not JSON; mend or delete it"
                ) from error
            values[number] = damaged(number, line)
    return values


def read_json_object(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that is one object.

    Raises:
        UserError: the file is missing or is something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is no JSON object; make or download it again")
    return content


def is_hub_id(name: str) -> bool:
    """Whether a name looks like a repository of the Hub, `owner/name`."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and name[-1] != "/"

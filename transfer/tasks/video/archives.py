"""Videos in zips that nobody unpacked, by paths such as `videos_chunked_01.zip/data/one.mp4`."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from transfer.errors import UserError

#: What a zip raises that is damaged or cut off, wants a password, or is packed in an unknown way.
_UNREADABLE = (OSError, BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def archive_of(path: Path) -> Path | None:
    """The zip that a path leads into; None where it leads into none."""
    parents = (parent for parent in path.parents if parent.suffix.lower() == ".zip")
    return next((parent for parent in parents if parent.is_file()), None)


def find_packed(archives: Sequence[Path], tails: Sequence[str]) -> Path | None:
    """The first file in the zips, or folder of files, whose path ends with one of these.

    Raises:
        UserError: a zip cannot be read.
    """
    for tail in tails:
        for archive in archives:
            named = _by_name(archive, archive.stat().st_mtime_ns)
            for inside in named.get(PurePosixPath(tail).name, ()):
                if f"/{inside}".endswith(f"/{tail}"):
                    return archive / inside
    return None


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The path itself; of a path into a zip, a copy of what is there, gone afterwards.

    Raises:
        UserError: the zip cannot be read.
    """
    archive = archive_of(path)
    if archive is None:
        yield path
        return
    inside = path.relative_to(archive).as_posix()
    with TemporaryDirectory(prefix="transfer-") as folder:
        with _opened(archive) as opened:
            for name in opened.namelist():
                if name == inside or name.startswith(f"{inside}/"):
                    opened.extract(name, folder)
        yield Path(folder, inside)


@contextmanager
def _opened(archive: Path) -> Iterator[ZipFile]:
    try:
        with ZipFile(archive) as opened:
            yield opened
    except _UNREADABLE as error:
        raise UserError(
            f"cannot unpack {archive} ({error}); download it again, or unpack it"
        ) from error


@lru_cache(maxsize=256)
def _by_name(archive: Path, changed: int) -> dict[str, list[str]]:
    """The paths of files and folders in a zip as it is now, by their last parts."""
    with _opened(archive) as opened:
        files = map(PurePosixPath, opened.namelist())
        # Where such a member would be put, it is not looked for.
        inside = [file for file in files if not (file.is_absolute() or ".." in file.parts)]
    found: dict[str, list[str]] = {}
    for path in dict.fromkeys(each for file in inside for each in (file, *file.parents)):
        found.setdefault(path.name, []).append(str(path))
    return found

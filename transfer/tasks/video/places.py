"""Where the files of a benchmark lie: as its authors have them, in other folders, or in zips."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transfer.errors import UserError
from transfer.tasks.video.archives import find_packed

#: Folders within folders of the data that videos are looked for in.
_DEPTH = 4


def find_files(
    task: str, data: Path | None, patterns: Sequence[str], layout: str = ""
) -> list[Path]:
    """The file itself, or all files of the folder that the first fitting pattern finds.

    Args:
        task: what errors name it.
        data: the file or folder.
        patterns: of the files in the folder.
        layout: what the folder should have, in words.

    Raises:
        UserError: there is none.
    """
    expected = f"; {layout}" if layout else ""
    if data is None:
        raise UserError(f"task {task} comes without data; give its folder as --data DIR{expected}")
    if data.is_file():
        return [data]
    for pattern in patterns:
        if found := sorted(data.glob(pattern)):
            return found
    where = f"the folder {data} has" if data.is_dir() else f"there is no {data}, and so"
    raise UserError(f"{where} no {' or '.join(patterns)} of {task}; check --data{expected}")


def locate(file: Path, folders: Sequence[str], names: Sequence[str]) -> Path:
    """Where a video lies whose record is in `file`; if it is missing, where it was expected.

    Args:
        file: the folders are beside it, or beside its own folder.
        folders: where to look.
        names: of the video, most likely first.
    """
    roots = (file.parent, file.parent.parent)
    places = [root / folder for root in roots for folder in folders]
    paths = [place / name for place in places for name in names]
    there = (place for place in places if place not in roots and place.is_dir())
    expected = next(there, places[0]) / names[0]
    return next((path for path in paths if exists(path)), expected)


def exists(path: Path) -> bool:
    """Whether it does; names too long for a file, and files in closed folders, do not."""
    try:
        return path.exists()
    except OSError:
        return False


@dataclass(frozen=True)
class Folder:
    """The folder of a benchmark, for files that lie elsewhere in it than expected.

    Attributes:
        path: of the folder.
    """

    path: Path

    def find(self, tails: Sequence[str]) -> Path | None:
        """The one file or folder, in a zip or out of it, whose path ends with one of the tails.

        Zips count that lie in the folder or in a folder of it.

        Raises:
            UserError: a zip cannot be read.
        """
        for tail in tails:
            own = self._named.get(Path(tail).name, ())
            fitting = [path for path in own if f"/{path.as_posix()}".endswith(f"/{tail}")]
            if len(fitting) == 1:
                return fitting[0]
        return find_packed(self._zips, tails)

    @cached_property
    def _zips(self) -> list[Path]:
        return sorted([*self.path.glob("*.zip"), *self.path.glob("*/*.zip")])

    @cached_property
    def _named(self) -> dict[str, list[Path]]:
        """Files and folders in it, not too deep, by their names."""
        found: dict[str, list[Path]] = {}
        for parent, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                found.setdefault(name, []).append(Path(parent, name))
            if len(Path(parent).relative_to(self.path).parts) >= _DEPTH:
                folders.clear()
        return found


def with_suffixes(name: str) -> tuple[str, ...]:
    """File names that a video without its ending may have, and the folder of frames."""
    return tuple(name + suffix for suffix in (".mp4", ".mkv", ".MP4", ".webm", ".avi", ""))

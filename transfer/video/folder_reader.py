"""A folder of pictures, as benchmarks ship for videos they may not."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from transfer.errors import UserError
from transfer.video.picture import upright

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def natural(path: Path) -> list[tuple[int, str]]:
    """Sorts `frame_10` behind `frame_9`."""
    parts = re.findall(r"\d+|\D+", path.stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


class FolderReader:
    """Pictures of one size in the natural order of their names; other files are not looked at.

    Args:
        folder: of the pictures.
        fps: pictures a second.

    Raises:
        UserError: no picture, or a rate that is not positive.
    """

    backend = "folder"
    notes: tuple[str, ...] = ()

    def __init__(self, folder: Path, fps: int | float) -> None:
        if not 1e-6 <= fps <= 1e6:
            raise UserError(f"folder_fps is {fps}; it must be positive, from 1e-06 to 1e+06")
        self._folder = folder
        found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        self._files = sorted((path for path in found if path.name[0] != "."), key=natural)
        if not self._files:
            raise UserError(
                f"folder {folder} has no picture ({', '.join(SUFFIXES)}); check the path"
            )
        self.seconds = tuple(round(i / fps, 3) for i in range(len(self._files)))
        self.duration = len(self._files) / fps

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "frames height width 3"]:
        """The pictures of these indices, in this order.

        Raises:
            UserError: a picture that cannot be read, or that has another size than the first.
        """
        pictures = [_picture(self._files[i]) for i in indices]
        for i, picture in zip(indices, pictures):
            if picture.shape != pictures[0].shape:
                sizes = " and ".join(f"{p.shape[1]} x {p.shape[0]}" for p in (picture, pictures[0]))
                raise UserError(
                    f"picture {self._files[i]} differs in size from the others ({sizes});"
                    " scale them all to one size"
                )
        return np.stack(pictures)


def _picture(file: Path) -> UInt8[np.ndarray, "height width 3"]:
    import av

    try:
        # As an open file: a path is taken for a pattern of file names where it holds a %.
        with (
            file.open("rb") as source,
            av.open(source, "r", metadata_errors="replace") as container,
        ):
            return upright(next(container.decode(video=0)))
    except (OSError, ValueError, IndexError, StopIteration) as error:
        reason = str(error) or type(error).__name__
        raise UserError(
            f"picture {file} cannot be read ({reason}); make or download it again"
        ) from error

"""HDF5 files from strangers: only what lies in the file itself is read, and no more than fits.

HDF5 can name other files as a place of its data (external links, external storage, virtual
datasets) and can declare any shape without holding a byte of it. Both are refused before a read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import h5py
import numpy as np

from transfer.errors import UserError
from transfer.files import replacing

#: An array has at most so many bytes for each of the file; recorded numbers compress to a third.
EXPANSION = 100
#: And so many for each of its own: zeros alone compress so well.
_DEFLATE = 1100
_REMEDY = "record or download it again"
#: What h5py raises for damaged structures, whichever of them it meets.
_DAMAGED = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file to read from.

    Raises:
        UserError: it is empty, cut, damaged or no HDF5, also where that is found while reading.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except _DAMAGED as error:
        reason = "is empty" if path.stat().st_size == 0 else "is cut, damaged or not an HDF5 file"
        raise UserError(f"dataset {path} {reason}; {_REMEDY}") from error


@contextmanager
def made(path: str | Path) -> Iterator[h5py.File]:
    """A file to fill, which is at `path` when the block ends without error.

    It is in memory first: HDF5 ends the process where the disk is full while it compresses.
    """
    with h5py.File(str(path), "w", driver="core", backing_store=False) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    with replacing(path) as partial:
        partial.write_bytes(image)


def filled(file: h5py.File, key: str, values: np.ndarray, held: int) -> int:
    """Add an array, compressed if `read_array` will believe what its bytes unpack to.

    Args:
        file: to add to.
        key: its name there.
        values: real numbers that are all 0 or 1 may become bool.
        held: bytes of the arrays that are there.

    Returns:
        Bytes of these and of the new one.
    """
    stored = file.create_dataset(key, data=values, compression="gzip").id.get_storage_size()
    if values.nbytes <= EXPANSION * (held + stored):
        return held + stored
    del file[key]
    if values.dtype.kind == "f" and np.isin(values, (0, 1)).all():
        return filled(file, key, values.astype(np.bool_), held)
    file[key] = values
    return held + values.nbytes


def member(path: Path, group: h5py.Group, key: str) -> h5py.Group | h5py.Dataset | None:
    """What a group itself holds under a name, slashes within it included; None if nothing.

    Raises:
        UserError: it lies in another file or place, or is named by what is no group.
    """
    found: object = group
    for name in key.split("/"):
        if not isinstance(found, h5py.Group):
            raise UserError(f"{key!r} of dataset {path} is in no group; {_REMEDY}")
        # `in` a group itself asks whether a link's end is there; its list of names is long.
        if not found.id.links.exists(name.encode()):
            return None
        link = found.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise UserError(
                f"{key!r} of dataset {path} is a link to another place or file, which is not "
                f"followed; {_REMEDY}"
            )
        found = found[name]
    return found if isinstance(found, h5py.Group | h5py.Dataset) else None


def read_array(path: Path, key: str, entry: object) -> np.ndarray:
    """An array of numbers, as it is stored.

    Raises:
        UserError: it is not numeric, lies in another file, or declares more than the file can hold.
    """
    if not isinstance(entry, h5py.Dataset) or entry.dtype.kind not in "fiub":
        raise UserError(f"array {key!r} of dataset {path} is not numeric; {_REMEDY}")
    check_plain(path, key, entry)
    return np.asarray(entry)


def check_plain(path: Path, key: str, entry: h5py.Dataset) -> None:
    """Refuse a dataset whose bytes are elsewhere, or that declares more than the file can hold.

    Raises:
        UserError: it is one.
    """
    if entry.external or entry.is_virtual:
        raise UserError(
            f"array {key!r} of dataset {path} lies in another file, which is not read; {_REMEDY}"
        )
    stored = entry.id.get_storage_size()
    most = min(EXPANSION * path.stat().st_size, _DEFLATE * stored + 2**16)
    for shape in (entry.shape or (), entry.chunks or ()):
        # Whole numbers of Python, which do not overflow.
        size = prod(map(int, shape), start=entry.dtype.itemsize)
        if size > most:
            raise UserError(
                f"array {key!r} of dataset {path} declares {size:,} bytes, more than the "
                f"{stored:,} that are stored can hold; {_REMEDY}"
            )

"""decord, for the files it is exact on; those it would misread are refused, and PyAV reads them.

decord takes packets for frames, in an order of its own, and jumps to key frames by time. So where
an edit list hides frames, where frames refer to those before a key frame, or in containers without
an exact index, it returns other frames than asked for, without an error. The index of the file says
beforehand whether it is of such a kind, and afterwards whether decord found the same frames in it.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock

import numpy as np
from jaxtyping import Float32, UInt8

from transfer.video.index import Index

#: How decord begins what it prints from C: the time, and its own source line.
PREFIX = r"\[\d\d:\d\d:\d\d\] \S+:\d+: "
_STDERR, _LOCK = 2, Lock()


class DecordReader:
    """A video file read by decord.

    Args:
        video: the file.
        index: of its frames.

    Raises:
        Exception: decord is not installed, cannot read the file, or would misread it.
    """

    backend = "decord"
    notes: tuple[str, ...] = ()

    def __init__(self, video: Path, index: Index) -> None:
        import decord

        if index.misread:
            raise ValueError(f"it is not exact {index.misread}")
        # What goes wrong is raised too, and then told in one sentence.
        decord.logging.set_level(decord.logging.QUIET)
        with _quiet():
            # A string, as ctypes knows no Path, and no address, which a name with a colon would be;
            # one thread, so that processes may be forked.
            self._reader = decord.VideoReader(str(video.absolute()), num_threads=1)
            shown = self._reader.get_frame_timestamp(range(len(self._reader)))[:, 0]
            keys = self._reader.get_key_indices()
        _check_times(shown, index)
        if keys != np.searchsorted(index.times, index.keys).tolist():
            raise ValueError("it takes other frames for key frames")
        self.seconds, self.duration = index.milliseconds(), index.duration()

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "frames height width 3"]:
        """The frames of these indices, in this order."""
        with _quiet():
            return self._reader.get_batch(list(indices)).asnumpy()


def _check_times(shown: Float32[np.ndarray, " found"], index: Index) -> None:
    """Refuse other frames than those of the index.

    Counted from the first one on: where a fragmented file begins, decord sees differently.
    """
    seconds = index.seconds()
    if len(shown) == len(seconds):
        # Both ends of the difference were rounded to 32 bits.
        rounding = 2 * np.spacing(np.abs(shown)).astype(np.float64)
        apart = np.abs(shown.astype(np.float64) - shown[0] - seconds)
        if (apart <= rounding + rounding[0]).all():
            return
    raise ValueError("it finds other frames than the packets hold")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what decord prints from C off the screen; what others print meanwhile comes after."""
    with _LOCK, TemporaryFile() as caught:
        try:
            screen = os.dup(_STDERR)
        # Closed before the start: nothing is seen anyway.
        except OSError:
            yield
            return
        os.dup2(caught.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(screen, _STDERR)
            os.close(screen)
            caught.seek(0)
            others = [line for line in caught if not re.match(PREFIX.encode(), line)]
            if others:
                os.write(_STDERR, b"".join(others))

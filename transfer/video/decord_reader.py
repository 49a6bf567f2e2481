"""decord, for the files it is exact on: MP4, MOV, Matroska and WebM without an edit list.

In files cut with an edit list (a phone's trim, `ffmpeg -ss ... -c copy`) decord counts frames that
are never shown, and what it returns for an index depends on the other indices; in containers
without an exact index (MPEG-TS) it seeks to wrong frames. Both happen without an error, so such
files are refused here, and PyAV reads them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from transfer.video.pyav_reader import EXACT_FORMATS, check_whole, opened, relative


class DecordReader:
    """A video file read by decord.

    Args:
        video: the file.

    Raises:
        Exception: decord is not installed, cannot read the file, or would misread it.
    """

    backend = "decord"

    def __init__(self, video: Path) -> None:
        import decord

        # What goes wrong is raised too, and then told in one sentence.
        decord.logging.set_level(decord.logging.QUIET)
        # A string, as ctypes knows no Path; one thread, so that processes may be forked.
        self._reader = decord.VideoReader(str(video), num_threads=1)
        if not len(self._reader):
            raise ValueError("it has no frame")
        shown = self._reader.get_frame_timestamp(range(len(self._reader)))
        _refuse_misread(video, float(shown[0, 0]), float(shown[-1, 0]))
        self.seconds = relative(shown[:, 0].tolist())

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "frames height width 3"]:
        """The frames of these indices, in this order."""
        return self._reader.get_batch(list(indices)).asnumpy()


def _refuse_misread(video: Path, first: float, last: float) -> None:
    with opened(video) as (container, stream):
        if container.format.name not in EXACT_FORMATS:
            raise ValueError(f"it is not exact in {container.format.long_name} files")
        length = float((stream.duration or 0) * (stream.time_base or 0))
        # Frames that an edit list hides lie before the beginning or behind the end.
        if first < 0 or 0 < length <= last - first:
            raise ValueError("it is not exact in a file cut with an edit list")
        check_whole(container, stream, last)

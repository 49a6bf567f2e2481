"""Decoded frames as pixels: turned as they are to be shown, and of one size."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from av import VideoFrame

#: Quarter turn first, then mirrored left to right, then upside down.
Turn = tuple[bool, bool, bool]


def turn(frame: "VideoFrame") -> Turn:
    """How the frame is to be turned, by its display matrix; other angles to the nearest quarter."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return (False, False, False)
    # x' = a x + c y and y' = b x + d y; the third of each row is of perspective.
    a, b, _, c, d = np.frombuffer(matrix, "=i4")[:5].tolist()
    # A quarter turn swaps rows and columns.
    return (True, c < 0, b < 0) if abs(b) > abs(a) else (False, a < 0, d < 0)


def shown_size(frame: "VideoFrame") -> tuple[int, int]:
    """Height and width as the frame is shown."""
    return (frame.width, frame.height) if turn(frame)[0] else (frame.height, frame.width)


def upright(
    frame: "VideoFrame", size: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """RGB pixels, turned as the file says they are to be shown.

    Args:
        frame: as it was decoded.
        size: height and width that the pixels are scaled to; by default they are not.
    """
    swapped, across, down = turn(frame)
    height, width = size or shown_size(frame)
    height, width = (width, height) if swapped else (height, width)
    pixels = frame.to_ndarray(format="rgb24", height=height, width=width)
    pixels = pixels.transpose(1, 0, 2) if swapped else pixels
    return pixels[:: -1 if down else 1, :: -1 if across else 1]

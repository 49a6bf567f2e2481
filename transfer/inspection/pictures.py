"""A picture of what a pruned cache kept of a video: the frames, and below them a row for each head.

The first row shows the frames as the model sees them. In the rows of the heads, patches whose
tokens were evicted are dimmed. The line at the bottom is the mean of all layers and heads.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, UInt8

from transfer.errors import UserError

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

#: What an evicted patch is mixed with, and how much of the picture remains in it.
EVICTED, REMAINS = np.array([70.0, 80.0, 130.0]), 0.2
LINE = (200, 30, 30)
_INK, _PAPER, _AXIS = (0, 0, 0), (255, 255, 255), (170, 170, 170)
#: Pixels: beside, above and below the tiles, between them, and the most of a tile and of all rows.
_LEFT, _TOP, _CHART, _GAP, _TILE, _HEIGHT = 96, 16, 60, 2, 48, 16_000

Kept = Bool[np.ndarray, "layers heads frames rows columns"]


@dataclass(frozen=True)
class Layout:
    """Where everything is in the picture, in pixels.

    Args:
        heads: of all layers together.
        frames: of the video.
        grid: rows and columns of patches of a frame.
    """

    heads: int
    frames: int
    grid: tuple[int, int]

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of a frame: as suits, but so that all rows make a readable picture."""
        room = min(_TILE, _HEIGHT // (self.heads + 1) - _GAP)
        cell = max(1, room // max(self.grid))
        return cell * self.grid[0], cell * self.grid[1]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.left(self.frames), self.top(self.heads + 1) + _CHART

    def left(self, frame: int) -> int:
        """Left edge of a frame."""
        return _LEFT + frame * (self.tile[1] + _GAP)

    def top(self, row: int) -> int:
        """Upper edge of a row; 0 is that of the frames themselves, head h is in row h + 1."""
        return _TOP + row * (self.tile[0] + _GAP)

    def level(self, share: float) -> int:
        """Height of a share of a frame's tokens in the chart."""
        top, bottom = self.top(self.heads + 1) + 4, self.size[1] - 4
        return round(bottom - share * (bottom - top))


def draw_kept(
    frames: UInt8[np.ndarray, "frames height width 3"], seconds: tuple[float, ...], kept: Kept
) -> "Image.Image":
    """Draw the frames, what each layer and head kept of them, and the mean share of each frame.

    Args:
        frames: as the model sees them.
        seconds: when each is shown.
        kept: whether the token of a patch is still cached.

    Raises:
        UserError: Pillow is not installed.
    """
    image_module, draw_module = pillow()
    layers, heads, count, rows, columns = kept.shape
    layout = Layout(layers * heads, count, (rows, columns))
    tiles = np.stack([_resized(frame, layout.tile) for frame in frames])
    canvas = np.full((*layout.size[::-1], 3), _PAPER, np.uint8)
    _paste(canvas, layout, 0, tiles)
    for number, mask in enumerate(kept.reshape(-1, *kept.shape[2:])):
        _paste(canvas, layout, number + 1, dimmed(tiles, mask))
    image = image_module.fromarray(canvas)
    draw = draw_module.Draw(image)
    _label(draw, layout, seconds, heads)
    _chart(draw, layout, kept_per_frame(kept) / (rows * columns))
    return image


def dimmed(
    tiles: UInt8[np.ndarray, "frames height width 3"], kept: Bool[np.ndarray, "frames rows columns"]
) -> UInt8[np.ndarray, "frames height width 3"]:
    """The frames with the patches that were evicted dimmed."""
    cell = tiles.shape[1] // kept.shape[1]
    bright = kept.repeat(cell, 1).repeat(cell, 2)[..., None]
    dark = np.rint(REMAINS * tiles + (1 - REMAINS) * EVICTED).astype(np.uint8)
    return np.where(bright, tiles, dark)


def kept_per_frame(kept: Kept) -> Float[np.ndarray, " frames"]:
    """Tokens of each frame that a layer and head keeps, on average."""
    return kept.sum((3, 4)).mean((0, 1))


def pillow() -> tuple[ModuleType, ModuleType]:
    """The modules that draw.

    Raises:
        UserError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise UserError("Pillow draws this picture; run `pip install pillow`") from error
    return Image, ImageDraw


def _resized(
    frame: UInt8[np.ndarray, "height width 3"], tile: tuple[int, int]
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    image_module, _ = pillow()
    return np.asarray(image_module.fromarray(frame).resize(tile[::-1]))


def _paste(canvas: np.ndarray, layout: Layout, row: int, tiles: np.ndarray) -> None:
    top, (height, width) = layout.top(row), layout.tile
    for frame, tile in enumerate(tiles):
        left = layout.left(frame)
        canvas[top : top + height, left : left + width] = tile


def _label(
    draw: "ImageDraw.ImageDraw", layout: Layout, seconds: tuple[float, ...], heads: int
) -> None:
    height, width = layout.tile
    for frame, second in enumerate(seconds):
        # As many as fit beside each other.
        if frame % max(1, round(40 / width)) == 0:
            draw.text((layout.left(frame), 2), f"{second:.1f} s", _INK)
    for row in range(layout.heads):
        at = (4, layout.top(row + 1) + height // 2 - 6)
        draw.text(at, f"layer {row // heads} head {row % heads}", _INK)
    draw.text((4, layout.level(0.5) - 6), "mean kept", _INK)


def _chart(
    draw: "ImageDraw.ImageDraw", layout: Layout, shares: Float[np.ndarray, " frames"]
) -> None:
    for share in (0.0, 1.0):
        at = layout.level(share)
        draw.line((_LEFT, at, layout.size[0] - _GAP, at), _AXIS)
        draw.text((_LEFT - 30, at - 6), f"{share:.0%}", _INK)
    points = [
        (layout.left(frame) + layout.tile[1] // 2, layout.level(share))
        for frame, share in enumerate(shares.tolist())
    ]
    draw.line(points, LINE, width=2)

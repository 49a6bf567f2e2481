"""A picture of which steps each head holds: a square a head, each row a moment of the episode.

From left to right are the steps of the episode, from top to bottom the moments at which it is asked
which of them are held; darker is more of a step's three tokens. Above each square, cues are marked
red and the steps that ask for them green. The environment as it looks at the beginning is on top.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, UInt8

from transfer.inspection.pictures import pillow

if TYPE_CHECKING:
    from PIL import Image

#: Of 0 to 3 tokens of a step.
SHADES = np.array([(245, 245, 245), (180, 200, 235), (90, 130, 205), (20, 50, 130)], np.uint8)
CUE, RECALL = (210, 30, 30), (20, 140, 60)
_INK, _PAPER = (0, 0, 0), (255, 255, 255)
#: Pixels: of a square at most, of a title, of the marks above a square, between squares.
_SIDE, _TITLE, _MARKS, _GAP = 320, 16, 10, 16
_MOST_CELL, _ACROSS = 8, 4


def draw_steps(
    held: UInt8[np.ndarray, "layers heads now steps"],
    cues: Bool[np.ndarray, " steps"],
    recalls: Bool[np.ndarray, " steps"],
    maze: UInt8[np.ndarray, "height width 3"] | None = None,
) -> "Image.Image":
    """Draw it.

    Args:
        held: tokens of each step that are held at each moment, 0 to 3.
        cues: steps that have to be remembered.
        recalls: steps whose action depends on one.
        maze: the environment as it looks.

    Raises:
        UserError: Pillow is not installed.
    """
    image_module, draw_module = pillow()
    layers, heads, _, steps = held.shape
    cell = max(1, min(_MOST_CELL, _SIDE // steps))
    width, height = cell * steps + _GAP, cell * steps + _TITLE + _MARKS + _GAP
    across = min(_ACROSS, layers * heads)
    rows = -(-layers * heads // across)
    top = _GAP if maze is None else 2 * _GAP + _fitted(maze, across * width).height
    page = (max(across * width + _GAP, _SIDE), top + rows * height + _TITLE)
    image = image_module.new("RGB", page, _PAPER)
    draw = draw_module.Draw(image)
    if maze is not None:
        image.paste(_fitted(maze, across * width), (_GAP, _GAP))
    marks = _grown(_marks(cues, recalls), _MARKS - 2, cell)
    for number, square in enumerate(held.reshape(-1, steps, steps)):
        left, upper = _GAP + number % across * width, top + number // across * height
        draw.text((left, upper), f"layer {number // heads} head {number % heads}", _INK)
        image.paste(marks, (left, upper + _TITLE))
        image.paste(_grown(SHADES[square], cell, cell), (left, upper + _TITLE + _MARKS))
    legend = "across: steps; down: moments; red: a cue, green: asked for; dark: held"
    draw.text((_GAP, page[1] - _TITLE), legend, _INK)
    return image


def _grown(pixels: UInt8[np.ndarray, "rows steps 3"], height: int, width: int) -> "Image.Image":
    image_module, _ = pillow()
    return image_module.fromarray(pixels.repeat(height, 0).repeat(width, 1))


def _marks(
    cues: Bool[np.ndarray, " steps"], recalls: Bool[np.ndarray, " steps"]
) -> UInt8[np.ndarray, "1 steps 3"]:
    found = np.full((1, len(cues), 3), _PAPER, np.uint8)
    found[0, recalls], found[0, cues] = RECALL, CUE
    return found


def _fitted(maze: UInt8[np.ndarray, "height width 3"], width: int) -> "Image.Image":
    """The maze as wide as the squares, or as high as one."""
    image_module, _ = pillow()
    found = image_module.fromarray(maze)
    found.thumbnail((width, _SIDE))
    return found

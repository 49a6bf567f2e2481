"""A picture of when each head let go of each token: a row a head, a column a token, old to new.

The darker, the later it left; white ones left at the first update, the darkest are still there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from transfer.inspection.pictures import pillow

if TYPE_CHECKING:
    from PIL import Image

_FIRST, _LAST = np.array([247.0, 251.0, 255.0]), np.array([8.0, 48.0, 107.0])
_INK, _PAPER = (0, 0, 0), (255, 255, 255)
#: Pixels: beside and above the rows, of a row, and of all columns together.
_LEFT, _TOP, _ROW, _WIDTH = 96, 18, 8, 1200


def draw_tokens(
    left: Int[np.ndarray, "layers heads tokens"], layers: Sequence[int], updates: int
) -> "Image.Image":
    """Draw it.

    Args:
        left: the update at which each token left; `updates` or more: it did not.
        layers: their numbers.
        updates: how many there were.

    Raises:
        UserError: Pillow is not installed.
    """
    image_module, draw_module = pillow()
    rows, tokens = left.reshape(-1, left.shape[-1]), left.shape[-1]
    share = np.where(rows >= updates, 1.0, rows / max(1, updates))[..., None]
    colours = np.rint(_FIRST + share * (_LAST - _FIRST)).astype(np.uint8)
    column = max(1, _WIDTH // tokens)
    picture = image_module.fromarray(colours.repeat(_ROW, 0).repeat(column, 1))
    page = image_module.new("RGB", (_LEFT + picture.width, 2 * _TOP + picture.height), _PAPER)
    page.paste(picture, (_LEFT, _TOP))
    draw = draw_module.Draw(page)
    heads = left.shape[1]
    for place, layer in enumerate(layers):
        # As many as can be read below each other.
        if place % max(1, round(12 / (_ROW * heads))) == 0:
            draw.text((4, _TOP + place * heads * _ROW), f"layer {layer}", _INK)
    draw.text(
        (_LEFT, 2),
        f"token 0 to {tokens - 1}; white: left at the first update, dark: still held",
        _INK,
    )
    return page

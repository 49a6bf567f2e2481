"""Corridors as pictures: cells from left to right, in rows where there are many."""

import numpy as np
from jaxtyping import Int, UInt8

#: What a cell shows: nothing, a key of either value that a gate asks for, a decoy, a gate.
FLOOR, KEY_HIGH, KEY_LOW, DECOY, GATE = range(5)
_COLOURS = np.array(
    [(225, 225, 225), (230, 120, 20), (30, 90, 200), (150, 150, 150), (30, 150, 70)], np.uint8
)
_AGENT, _WALL = (0, 0, 0), (60, 60, 60)
_CELL, _ACROSS = 12, 80


def drawn(cells: Int[np.ndarray, " cells"], agent: int) -> UInt8[np.ndarray, "height width 3"]:
    """A picture of a corridor.

    Args:
        cells: what each shows.
        agent: the cell in which the agent is.
    """
    across = min(_ACROSS, len(cells))
    rows = -(-len(cells) // across)
    page = np.full((rows, _CELL, across, _CELL, 3), _WALL, np.uint8)
    row, column = np.divmod(np.arange(len(cells)), across)
    inside, middle = slice(1, -1), slice(_CELL // 3, -(_CELL // 3))
    page[row, inside, column, inside] = _COLOURS[cells][:, None, None]
    page[agent // across, middle, agent % across, middle] = _AGENT
    return page.reshape(rows * _CELL, across * _CELL, 3)

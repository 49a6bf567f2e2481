"""The picture of what was kept, read back from its file."""

import builtins
import math

import numpy as np
import pytest
from PIL import Image

from transfer.errors import UserError
from transfer.inspection.pictures import (
    EVICTED,
    LINE,
    REMAINS,
    Layout,
    draw_kept,
    kept_per_frame,
)


@pytest.fixture(params=[(4, 4), (2, 3)], ids=str)
def grid(request):
    return request.param


@pytest.fixture
def layout(grid):
    return Layout(heads=6, frames=5, grid=grid)


@pytest.fixture
def frames(grid):
    shape = (5, 8 * grid[0], 8 * grid[1], 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture
def kept(grid):
    return np.random.default_rng(1).random((2, 3, 5, *grid)) < 0.4


@pytest.fixture
def drawn(frames, kept, tmp_path):
    draw_kept(frames, (0.0, 0.5, 1.0, 1.5, 2.0), kept).save(tmp_path / "kept.png")
    return np.asarray(Image.open(tmp_path / "kept.png"))


def tile(picture, layout, row, frame):
    top, left = layout.top(row), layout.left(frame)
    height, width = layout.tile
    return picture[top : top + height, left : left + width].astype(float)


def test_every_patch_of_every_head_is_as_bright_as_it_was_kept(drawn, kept, layout):
    assert drawn.shape == (*layout.size[::-1], 3)
    cell = layout.tile[0] // layout.grid[0]
    assert layout.tile == (cell * layout.grid[0], cell * layout.grid[1])
    for (layer, head, frame, row, column), bright in np.ndenumerate(kept):
        patch = np.s_[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        original = tile(drawn, layout, 0, frame)[patch]
        found = tile(drawn, layout, 1 + layer * 3 + head, frame)[patch]
        expected = original if bright else REMAINS * original + (1 - REMAINS) * EVICTED
        assert np.abs(found - expected).max() <= 0.5


def test_the_first_row_is_the_frames_themselves(drawn, frames, layout):
    for number, frame in enumerate(frames):
        expected = np.asarray(Image.fromarray(frame).resize(layout.tile[::-1]))
        assert (tile(drawn, layout, 0, number) == expected).all()


def test_the_line_stands_at_the_mean_of_each_frame(drawn, kept, layout):
    shares = kept.mean((0, 1, 3, 4))
    assert kept_per_frame(kept) == pytest.approx(math.prod(layout.grid) * shares)
    for frame, share in enumerate(shares):
        column = drawn[layout.top(7) :, layout.left(frame) + layout.tile[1] // 2]
        [*heights] = np.flatnonzero((column == LINE).all(-1)) + layout.top(7)
        assert np.mean(heights) == pytest.approx(layout.level(share), abs=1.5)


@pytest.mark.parametrize(
    ("layers", "frames", "grid"),
    [
        (1, 1, (1, 1)),
        (32 * 32, 32, (12, 12)),
        (8, 64, (4, 4)),
        (28 * 4, 16, (13, 23)),
    ],
)
def test_large_models_make_pictures_that_can_be_opened(layers, frames, grid):
    layout = Layout(layers, frames, grid)
    assert layout.tile[0] % grid[0] == layout.tile[1] % grid[1] == 0
    width, height = layout.size
    assert height <= 16_200 and width <= 4_000


def test_without_pillow_a_sentence_says_how_to_get_it(frames, kept, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install pillow"):
        draw_kept(frames, (0.0,) * 5, kept)

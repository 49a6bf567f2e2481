"""`transfer inspect` of an episode; its picture is read back."""

import numpy as np
import pytest
from memory_model import ENV, random_model
from PIL import Image

from transfer.adapters.control_model import save_control_model
from transfer.cli import main, parse
from transfer.inspection.config import InspectLanguage
from transfer.inspection.step_pictures import CUE, RECALL, SHADES, draw_steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("random")
    save_control_model(random_model(ENV), path)
    return path


def inspected(folder, path, *words) -> np.ndarray:
    given = ["--model", str(folder), "--update-interval", "6", "--out", str(path), *words]
    assert main(["inspect", *given]) == 0
    with Image.open(path) as image:
        return np.asarray(image)


def test_squares_show_what_is_held_when():
    held = np.zeros((1, 2, 3, 3), np.uint8)
    held[0, 0] = np.tril(np.full((3, 3), 3))
    held[0, 1, 2] = [1, 0, 2]
    marks = np.array([True, False, False]), np.array([False, False, True])
    picture = np.asarray(draw_steps(held, *marks))
    left, top, cell, side = 16, 16, 8, 24
    above = picture[top + 16 : top + 24, left : left + side : cell]
    assert (above[:, 0] == CUE).all() and (above[:, 2] == RECALL).all()
    for head in range(2):
        start = left + head * (side + 16)
        square = picture[top + 26 : top + 26 + side : cell, start : start + side : cell]
        np.testing.assert_array_equal(square, SHADES[held[0, head]])


def test_an_episode_of_the_oracle(folder, tmp_path, capsys):
    picture = inspected(folder, tmp_path / "new" / "o.png", "--policy", "oracle", "--budget", "6")
    said = capsys.readouterr().out
    assert "oracle in tmaze:length=24, seed 0: 24 steps, return 0.00, success 0%" in said
    assert "of 1 steps to remember, 100% have a token in a head" in said
    # Cues, gates, and the corridor on top, whose agent stands in the first cell.
    assert (picture == CUE).all(-1).any() and (picture == RECALL).all(-1).any()
    assert (picture[20, 20] == 0).all() or (picture[22, 22] == 0).all()


def test_what_fifo_forgets(folder, tmp_path, capsys):
    inspected(folder, tmp_path / "f.png", "--policy", "fifo", "--budget", "6", "--seed", "3")
    assert "of 1 steps to remember, 0% have a token" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--policy", "window"], "window has no cache to draw; name another policy"),
        (["--policy", "all"], "policy is all and a picture shows one; name one policy"),
        (["--out", "kept.jpg"], "out kept.jpg is no .png file; rename it"),
    ],
)
def test_what_cannot_be_drawn(folder, words, sentence, capsys):
    assert main(["inspect", "--model", str(folder), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_kinds_are_told_by_the_model(capsys):
    [config, _] = parse(["inspect", "--model", "gpt2-recall"])
    assert isinstance(config, InspectLanguage)
    assert main(["inspect", "films"]) == 2
    assert "unknown kind of picture 'films'" in capsys.readouterr().err

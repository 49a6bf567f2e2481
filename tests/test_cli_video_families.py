"""`transfer eval` and `transfer inspect` on every family of video models, from their files."""

import json

import numpy as np
import pytest
import tiny_video
from PIL import Image
from tiny_video_families import FAMILIES, save

from transfer import cli
from transfer.evaluation.store import read_results
from transfer.inspection.pictures import Layout

#: Times, rows and columns of 6 frames of 64 x 128 pixels.
GRIDS = {
    "llava_onevision": (6, 3, 3),
    "qwen2_vl": (3, 2, 4),
    "qwen2_5_vl": (3, 2, 4),
    "smolvlm": (6, 3, 3),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    path = tmp_path_factory.mktemp(family)
    save(family, path / "model")
    tiny_video.write_video(path / "clip.mp4", 6)
    line = {"video": "clip.mp4", "question": "what ?", "options": ["red", "green"], "answer": "B"}
    (path / "questions.jsonl").write_text(json.dumps(line) + "\n")
    return path


def test_eval(family, folder, tmp_path, capsys):
    words = [
        "eval", "--model", str(folder / "model"), "--task", "jsonl", "--frames", "6",
        "--data", str(folder / "questions.jsonl"), "--policy", "namm", "recency",
        "--budget", "0.25", "--equal-bytes", "--update-interval", "16", "--chunk", "20",
        "--out", str(tmp_path),
    ]  # fmt: skip
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "model on jsonl: 1 questions, 1 videos, 6 frames" in printed
    full, namm, pruned = read_results(tmp_path).rows
    assert pruned["cache_bytes"] == pytest.approx(namm["cache_bytes"], rel=0.05)
    times, rows, columns = GRIDS[family]
    assert full["video_tokens"] == times * rows * columns + (family == "llava_onevision")
    assert full["kept_tokens"] == full["tokens"] == pruned["tokens"]
    assert pruned["kept_tokens"] < 0.75 * pruned["tokens"]
    assert pruned["log_likelihoods"] != full["log_likelihoods"]


def test_inspect(family, folder, tmp_path, capsys):
    out = tmp_path / "kept.png"
    words = [
        "inspect", "--model", str(folder / "model"), "--video", str(folder / "clip.mp4"),
        "--policy", "recency", "--budget", "20", "--update-interval", "16", "--frames", "6",
        "--question", "what ?", "--out", str(out),
    ]  # fmt: skip
    assert cli.main(words) == 0
    times, rows, columns = GRIDS[family]
    said = capsys.readouterr().out
    assert f"mean kept of the {rows * columns} of each frame: " in said
    assert len(said.splitlines()[1].split(": ")[1].split()) == times
    with Image.open(out) as image:
        picture = np.asarray(image)
    layout = Layout(heads=6, frames=times, grid=(rows, columns))
    assert picture.shape[1::-1] == layout.size

"""The script that kills commands notices what it should; one kill of one command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kills.commands import Command
from kills.killing import contents, differences

COMMAND = Command("made up", "", differing=("free",))


@pytest.fixture
def left(tmp_path):
    """What two runs left."""

    def write(name: str) -> Path:
        out = tmp_path / name
        (out / "sub").mkdir(parents=True)
        rows = [{"item": item, "score": 0.1, "model_seconds": 1.5} for item in (0, 1)]
        (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (out / "run.json").write_text('{"n": 2, "digest": "ab", "parts": [{"seconds": 3}]}')
        (out / "table.csv").write_text("n,seconds\n2,3\n")
        (out / "sub/CARD.md").write_text("# It\ntook 3 s\nscored 5\n")
        (out / "sub/model.safetensors").write_bytes(b"123")
        (out / "free.txt").write_text(name)
        return out

    return write("one"), write("other")


def change(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def test_times_and_what_is_free_are_no_difference(left):
    one, other = left
    change(other / "rows.jsonl", "1.5", "2.5")
    change(other / "run.json", '"seconds": 3', '"seconds": 4')
    change(other / "run.json", "ab", "cd")
    change(other / "table.csv", "2,3", "2,4")
    change(other / "sub/CARD.md", "3 s", "4 s")
    assert differences(*(contents(COMMAND, out) for out in (one, other))) == []


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("rows.jsonl", '"score": 0.1', '"score": 0.2'),
        ("rows.jsonl", '"item": 0', '"item": 1'),
        ("run.json", '"n": 2', '"n": 3'),
        ("table.csv", "2,3", "3,3"),
        ("sub/CARD.md", "scored 5", "scored 6"),
        ("sub/model.safetensors", "123", "124"),
    ],
)
def test_anything_else_is(left, file, old, new):
    one, other = left
    change(other / file, old, new)
    assert differences(*(contents(COMMAND, out) for out in (one, other))) == [file]


def test_so_is_a_file_too_many_or_too_few(left):
    one, other = left
    (other / "sub/model.safetensors").unlink()
    (other / ".rows.partial").write_text("")
    found = differences(*(contents(COMMAND, out) for out in (one, other)))
    assert found == [".rows.partial", "sub/model.safetensors"]


def test_a_command_that_was_killed_goes_on():
    root = Path(__file__).parents[1]
    words = [sys.executable, "-m", "tests.kills", "--kills", "1", "--only", "collect"]
    ended = subprocess.run(words, cwd=root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    line = ended.stdout.splitlines()[-1].split()
    assert line[0] == "collect" and line[1] == line[3] == line[4] == "1"

"""Folders that one run holds at a time, and JSON lines."""

import subprocess
import sys

import pytest

from transfer.errors import UserError
from transfer.files import locked, read_json, read_json_lines

HOLDER = """
import sys, time
from pathlib import Path
from transfer.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_by_one_process_until_it_dies(tmp_path):
    folder = tmp_path / "made"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=r"another run is writing into .*; wait for it"),
            locked(folder),
        ):
            pass
        holder.kill()
    with locked(folder):
        assert list(folder.iterdir()) == []


def test_json_lines_are_known_by_their_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"a": "x\u2028y"}\n\n  \n[1, 2]\n3', encoding="utf-8")
    assert read_json_lines(path) == {1: {"a": "x\u2028y"}, 4: [1, 2], 5: 3}
    assert read_json_lines(path, cut=True) == {1: {"a": "x\u2028y"}, 4: [1, 2]}


def test_damaged_json_lines_are_named_or_replaced(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('1\n{"a\n')
    with pytest.raises(UserError, match=r"line 2 of .*a\.jsonl is not JSON; mend or delete it"):
        read_json_lines(path, cut=True)
    assert read_json_lines(path, lambda number, line: (number, line)) == {1: 1, 2: (2, '{"a')}


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_what_holds_no_json_lines_is_named(tmp_path, content):
    if content:
        (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*a\.jsonl \(.*\); check the file"):
        read_json_lines(tmp_path / "a.jsonl")


#: What JSON may say and nothing can work with, and the words for it.
HOSTILE = {
    "[" * 100_000: "nested too deeply",
    '{"a": ' * 100_000: "nested too deeply",
    '{"a": 1, "a": 2}': "'a' twice",
    '{"a": {"b": [{"c": 1, "c": 1}]}}': "'c' twice",
    '{"a": "\\ud800"}': "surrogates not allowed",
    '{"\\uDFFF": 1}': "surrogates not allowed",
    "9" * 100_000: "a number of 100000 digits",
    "-" + "9" * 400: "a number of 401 digits",
    "": "Expecting value",
    "\0": "Expecting value",
}


@pytest.mark.parametrize("text", HOSTILE, ids=list(HOSTILE.values()))
def test_json_that_nothing_can_work_with_is_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"a\.json is not valid JSON \(.*{HOSTILE[text]}"):
        read_json(path)
    if text:
        with pytest.raises(UserError, match=r"line 1 of .*a\.json is not JSON"):
            read_json_lines(path)


def test_halves_that_make_a_character_are_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(r'["\ud83d\ude00", "\\ud800"]')
    assert read_json(path) == ["\N{GRINNING FACE}", r"\ud800"]


def test_text_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("transfer.files.MOST_TEXT", 2**20)
    with pytest.raises(UserError, match=r"/dev/zero has more than 1,048,576 bytes"):
        read_json("/dev/zero")

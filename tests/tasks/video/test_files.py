import sys

import pytest

from transfer.errors import UserError
from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video.files import (
    convert,
    identify,
    locate,
    read_rows,
    spread,
    unlettered,
)


def test_names():
    assert all(benchmark.name == name for name, benchmark in VIDEO_TASKS.items())


def test_parquet_needs_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "rows.parquet"
    path.touch()
    with pytest.raises(UserError, match="pyarrow is not installed; run 'pip install pyarrow', or"):
        read_rows(path)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    rows = [{"id": "a", "options": ["x", "y"]}, {"id": "b", "options": ["z", "w"]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert read_rows(path) == rows
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"cannot read .*rows\.parquet"):
        read_rows(path)


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(1, "a"), (2, "ad"), (3, "ace"), (7, "abcdefg"), (9, "abcdefg")],
)
def test_spread(count, chosen):
    assert spread("abcdefg", count) == list(chosen)


def test_repeated_ids_are_replaced_by_ones_that_are_free(tmp_path):
    rows = [{"id": name} for name in ("x", "x", "x (place 1)", "x")]
    ask = VIDEO_TASKS["jsonl"].question
    found = convert(identify(tmp_path / "f.json", rows), ask)
    assert [record.id for record in found] == ["x", "x (place 1)'", "x (place 1)", "x (place 3)"]
    assert ["stands twice" in record.reason for record in found] == [False, True, False, True]


def test_a_missing_video_is_expected_in_a_folder_of_videos(tmp_path):
    file = tmp_path / "json" / "tasks.json"
    (tmp_path / "video").mkdir()
    file.parent.mkdir()
    for names in (("x.mp4",), ("x" * 300,), ("\0",)):
        found = locate(file, ("videos", "video", "."), names)
        assert found == tmp_path / "video" / names[0]
    (file.parent / "x.mp4").touch()
    assert locate(file, ("videos", "video", "."), ("x.mp4",)) == file.parent / "x.mp4"


def test_options_with_letters():
    assert unlettered(["A. x", "B.y"]) == ("x", "y")
    assert unlettered(["(A) A. x", "(B)y"]) == ("A. x", "y")
    assert unlettered(["A. x", "C. y"]) == ("A. x", "C. y")
    many = [f"{letter}. x" for letter in "ABCDEFGHI"]
    assert unlettered(many) == tuple(many)

import json
import sys
import zipfile
from itertools import islice
from pathlib import Path

import pyarrow
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from pyarrow import parquet

from transfer.errors import UserError
from transfer.tasks.benchmarks import data
from transfer.tasks.benchmarks.data import Published, Record, records

PUBLISHED = Published("owner/set", ("data.zip",))
ROWS = [{"id": n, "text": f"Nº {n}\u2028", "list": ["a", "b"]} for n in range(40)]
LINES = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in ROWS)


def read(path, name="qa", **options):
    return list(records(path, name, PUBLISHED, **options))


def fields(path, name="qa", **options):
    return [dict(record.fields) for record in read(path, name, **options)]


def as_lines(path, rows=ROWS):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))


def as_list(path, rows=ROWS):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1))


def as_parquet(path, rows=ROWS):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def as_zip(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("where", "write"),
    [
        ("qa.jsonl", as_lines),
        ("qa.json", as_lines),
        ("qa.json", as_list),
        ("qa.jsonl", as_list),
        ("qa.parquet", as_parquet),
        ("data/qa.jsonl", as_lines),
        ("data/qa.json", as_list),
        ("qa/test-00000-of-00001.parquet", as_parquet),
        ("qa/test/0000.parquet", as_parquet),
        ("data/qa/0.parquet", as_parquet),
        ("data/qa-00000-of-00001.parquet", as_parquet),
    ],
)
def test_layouts_of_a_folder(tmp_path, where, write):
    write(tmp_path / where)
    as_lines(tmp_path / "other.jsonl", ROWS[:1])
    assert fields(tmp_path) == ROWS
    assert fields(tmp_path, key="id", most=3) == ROWS[:3]
    assert fields(tmp_path / where) == ROWS
    with pytest.raises(
        UserError, match=rf"^{tmp_path / where} is not called other, .* or rename it"
    ):
        read(tmp_path / where, "other")
    as_zip(tmp_path.with_suffix(".zip"), (where, (tmp_path / where).read_bytes()))
    assert fields(tmp_path.with_suffix(".zip")) == ROWS


def test_a_file_alone_is_known_by_its_name(tmp_path, monkeypatch):
    for name in ("qa", "qa.txt", "qa.JSONL"):
        as_lines(tmp_path / name)
        assert fields(tmp_path / name) == ROWS
    for name in ("qa_e.jsonl", "qa.jsonl.bak", "my-qa.jsonl", "qa-2.parquet"):
        as_lines(tmp_path / name)
        with pytest.raises(UserError, match=rf"{name} is not called qa, as the data of that task"):
            read(tmp_path / name)
    as_parquet(tmp_path / "set" / "qa" / "0.parquet")
    monkeypatch.chdir(tmp_path / "set" / "qa")
    assert fields(Path("0.parquet")) == ROWS


def test_names_with_folders(tmp_path):
    as_lines(tmp_path / "data" / "qa1" / "0k.jsonl", ROWS[:2])
    as_lines(tmp_path / "data" / "qa1" / "1k.jsonl")
    assert fields(tmp_path, "qa1/0k") == ROWS[:2]


def test_parts_are_read_in_order_and_training_data_are_not(tmp_path):
    as_parquet(tmp_path / "qa" / "test-00001-of-00002.parquet", ROWS[20:])
    as_parquet(tmp_path / "qa" / "test-00000-of-00002.parquet", ROWS[:20])
    as_parquet(tmp_path / "qa" / "train-00000-of-00001.parquet", ROWS[:1])
    assert fields(tmp_path, key="id") == ROWS
    assert read(tmp_path)[20].place.startswith("record 1 of ")


def test_a_zip_within_a_folder(tmp_path):
    as_zip(tmp_path / "a.zip", ("other.jsonl", ""))
    as_zip(
        tmp_path / "data.zip",
        ("__MACOSX/data/._qa.jsonl", "no"),
        ("data/qa.jsonl", "\ufeff" + LINES),
        ("data/qa_e.jsonl", "no"),
    )
    assert fields(tmp_path) == ROWS
    as_lines(tmp_path / "qa.jsonl", ROWS[:1])
    assert fields(tmp_path) == ROWS[:1]


def test_empty_lines_do_not_count_and_numbers_are_those_of_the_file(tmp_path):
    path = tmp_path / "qa.jsonl"
    path.write_text('\n{"id": 1}\n  \n{"id": 2}', encoding="utf-8-sig")
    assert [record.place for record in read(path)] == [f"line {n} of {path}" for n in (2, 4)]


@pytest.mark.parametrize("zipped", [False, True])
def test_no_more_is_read_than_is_asked_for(tmp_path, zipped):
    path = tmp_path / "qa.jsonl"
    path.write_text(LINES + "{")
    path = as_zip(tmp_path / "qa.zip", ("qa.jsonl", path.read_text())) if zipped else path
    assert fields(path, most=40) == ROWS
    assert len(list(islice(records(path, "qa", PUBLISHED), 40))) == 40
    with pytest.raises(UserError, match=r"^line 41 of .*qa\.jsonl.* is not valid JSON"):
        read(path)


def test_without_data_they_come_from_the_hub(tmp_path, monkeypatch):
    as_zip(tmp_path / "data.zip", ("data/qa.jsonl", LINES))
    asked = []

    def download(repo, **how):
        asked.append((repo, how))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert fields(None, most=2) == ROWS[:2]
    assert asked == [("owner/set", {"repo_type": "dataset", "allow_patterns": ["data.zip"]})]


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("x"), OSError("x"), ConnectionError()])
def test_the_hub_cannot_be_reached(monkeypatch, error):
    def download(repo, **how):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    said = (
        rf"^the data set 'owner/set' could not .*\({type(error).__name__}\).*give a copy.*--data$"
    )
    with pytest.raises(UserError, match=said):
        read(None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"^PATH has no records; download it again$"),
        (b"\n \n", r"^PATH has no records; download it again$"),
        (b"[]", r"^PATH has no records; download it again$"),
        (b"[{}", r"^PATH is not valid JSON \("),
        (b"[{}]\n[{}]", r"^PATH is not valid JSON \("),
        (b"[{}, 3]", r"^record 2 of PATH is no JSON object with fields; mend or delete it$"),
        (b"{}\n[]", r"^line 2 of PATH is no JSON object with fields; mend or delete it$"),
        (b'{}\n{"a": 1, "a": 2}', r"^line 2 of PATH is not valid JSON \(it has 'a' twice\)"),
        (b'{"a": ' + b"9" * 400 + b"}", r"^line 1 of PATH .*\(it has a number of 400 digits\)"),
        (b"[" * 10**5, r"^PATH is not valid JSON \(it is nested too deeply\)"),
        (b'{"a": "\\ud800"}', r"^line 1 of PATH is not valid JSON \(.*surrogates not allowed"),
        (b'{}\n{"a": "\xff"}', r"^line 2 of PATH is not valid JSON \(.*can't decode byte 0xff"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"^line 1 of PATH is not valid JSON"),
    ],
)
def test_json_that_is_none(tmp_path, content, said):
    path = tmp_path / "qa.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said.replace("PATH", str(path))):
        read(path)
    inner = f"qa.jsonl in {as_zip(tmp_path / 'qa.zip', ('qa.jsonl', content))}"
    with pytest.raises(UserError, match=said.replace("PATH", inner)):
        read(tmp_path / "qa.zip")


@pytest.mark.parametrize("cut", [0, 3, 100, 300, -1])
def test_a_cut_zip(tmp_path, cut):
    path = as_zip(tmp_path / "qa.zip", ("qa.jsonl", LINES))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=rf"^cannot read {path} \(.+\); check it, or download"):
        read(path)


def test_a_damaged_zip(tmp_path):
    path = as_zip(tmp_path / "qa.zip", ("qa.jsonl", LINES))
    content = bytearray(path.read_bytes())
    content[100:110] = b"\0" * 10
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^cannot read qa\.jsonl in {path} \(.+\); check it"):
        read(path)


@pytest.mark.parametrize("name", ["../qa.jsonl", "/etc/qa.jsonl", "a/../../qa.jsonl"])
def test_a_zip_that_leads_out(tmp_path, name):
    path = as_zip(tmp_path / "qa.zip", (name, LINES))
    with pytest.raises(UserError, match=rf"^{name} in {path} would lie outside of the zip; "):
        read(path)


def test_files_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "MOST_TEXT", 1000)
    path = as_zip(tmp_path / "qa.zip", ("qa.jsonl", b'{"a": 1}' + b" " * 1000))
    with pytest.raises(UserError, match=rf"^qa\.jsonl in {path} has 1,008 bytes, more than 1,000"):
        read(path)
    for content in (b'{"a": 1}' + b" " * 1000, b"[{}" + b" " * 1000):
        (tmp_path / "qa.jsonl").write_bytes(content)
        with pytest.raises(UserError, match=r"qa\.jsonl has more than 1,000 bytes; check the path"):
            read(tmp_path / "qa.jsonl")


def test_a_zip_with_a_password_and_one_with_two_of_a_name(tmp_path):
    path = as_zip(tmp_path / "qa.zip", ("qa.jsonl", LINES))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^qa\.jsonl in .*qa\.zip wants a password; unpack it"):
        read(path)
    as_zip(path, ("b/qa.jsonl", LINES), ("a/qa.jsonl", LINES))
    with pytest.raises(UserError, match=r"qa\.zip has a/qa\.jsonl and b/qa\.jsonl; unpack it"):
        read(path)


@pytest.mark.parametrize("cut", [0, 3, 400, -1])
def test_a_cut_parquet(tmp_path, cut):
    path = tmp_path / "qa.parquet"
    as_parquet(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=rf"^{path} is damaged after record 0 or no Parquet \(.+\)"):
        read(path)


def test_parquet_without_its_package(tmp_path, monkeypatch):
    as_parquet(tmp_path / "qa.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"^the package pyarrow .*namm-transfer\[benchmarks\]'`$"):
        read(tmp_path)


def test_a_name_that_no_file_has(tmp_path):
    with pytest.raises(UserError, match=r"^cannot read .*xxx \(File name too long\); check it, or"):
        read(tmp_path / ("x" * 300))


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"^there is no file or folder .*absent; check --data$"):
        read(tmp_path / "absent")
    (tmp_path / "qa.txt").write_text(LINES)
    (tmp_path / "qa.jsonl").mkdir()
    said = rf"^{tmp_path} has no qa\.jsonl, .*https://huggingface\.co/datasets/owner/set\)$"
    with pytest.raises(UserError, match=said):
        read(tmp_path)
    path = as_zip(tmp_path / "other.zip", ("other.jsonl", LINES))
    with pytest.raises(UserError, match=rf"^{path} has no qa\.jsonl"):
        read(path)


def test_a_key_that_repeats_or_is_none(tmp_path):
    as_lines(tmp_path / "qa.jsonl", [ROWS[0], ROWS[1], ROWS[0]])
    assert len(read(tmp_path)) == 3
    with pytest.raises(UserError, match=r"^line 3 of .* has the id of line 1 of .*qa\.jsonl, 0; "):
        read(tmp_path, key="id")
    with pytest.raises(UserError, match=r"^line 1 of .* has the list \['a', 'b'\], not a text or"):
        read(tmp_path, key="list")


def test_a_long_value_is_not_shown_whole():
    record = Record("line 1 of qa.jsonl", {"a": "x" * 10**6})
    with pytest.raises(UserError, match=r"^line 1 of qa\.jsonl has the a 'x{56}\.\.\., not a list"):
        record.texts("a")

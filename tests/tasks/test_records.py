import json

import pytest
from tasks.words import word_tokenizer

from transfer.errors import UserError
from transfer.tasks.records import Record, encode_record, read_records


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_read_and_encode(tmp_path):
    line = {"prompt": "The lamp is red. Question: colour? Answer: ", "answer": " red"}
    [record] = read_records(write(tmp_path / "own.jsonl", json.dumps(line), "", "  "))
    assert record == Record("The lamp is red. Question: colour? Answer:", "red")
    tokenizer = word_tokenizer()
    batch = encode_record(record, tokenizer)
    assert batch.ids.shape[0] == 1
    assert tokenizer.decode(batch.ids[0]) == f"<s>{record.prompt} red\n"
    assert tokenizer.decode(batch.ids[0][batch.answers[0]]) == " red"


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file(tmp_path, content):
    path = tmp_path / "own.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=r"task file .*own\.jsonl is empty; give one JSON line"):
        read_records(path)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", '{"prompt": "x"}', '{"prompt": "x", "answer": ""}',
     '{"prompt": "x", "answer": 3}', '{"prompt": "  ", "answer": "y"}'],
)  # fmt: skip
def test_malformed_line_is_named(tmp_path, line):
    good = json.dumps({"prompt": "a", "answer": "b"})
    with pytest.raises(UserError, match="line 2 of the task file"):
        read_records(write(tmp_path / "own.jsonl", good, line))


def test_missing_and_binary_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*check the file"):
        read_records(tmp_path / "absent.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"cannot read .*check the file"):
        read_records(tmp_path / "binary.jsonl")


def test_lines_end_at_line_feeds_alone(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_text('\ufeff{"prompt": "One\u2028two?", "answer": "three"}\n', encoding="utf-8")
    assert read_records(file) == [Record("One\u2028two?", "three")]

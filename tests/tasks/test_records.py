import json

import pytest

from transfer.errors import UserError
from transfer.tasks.records import OwnQuestions, Record, read_records


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_questions_are_the_last_lines_of_their_prompts(tmp_path):
    lines = [
        {"prompt": "The lamp is red.\nQuestion: colour? Answer: ", "answer": " red"},
        {"prompt": "The lamp is", "answer": "RED"},
    ]
    path = write(tmp_path / "own.jsonl", json.dumps(lines[0]), "", json.dumps(lines[1]), "  ")
    record, _ = read_records(path)
    assert record == Record("The lamp is red.\nQuestion: colour? Answer:", "red")
    task = OwnQuestions(str(path))
    first, second = task.samples(None)
    assert (first.item, first.context, first.question) == (
        0, "The lamp is red.\n", "Question: colour? Answer:"
    )  # fmt: skip
    assert (second.item, second.context, second.question) == (1, "", "The lamp is")
    assert [one.item for one in task.samples(None, 1)] == [0]
    assert task.score(" a red one", second) == 1 and task.score(" blue", second) == 0
    assert task.answer(first) == "red"


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

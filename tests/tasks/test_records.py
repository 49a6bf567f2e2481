import json
import re

import pytest

from transfer.errors import UserError
from transfer.tasks.records import OwnQuestions, Record, has_words, read_records


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_questions_are_the_last_lines_of_their_prompts(tmp_path):
    lines = [
        {"prompt": "The lamp is red.\nQuestion: colour? Answer: ", "answer": " red"},
        {"prompt": "The lamp is", "answer": ["RED", "scarlet red"]},
        {"context": "A.\nB. ", "question": "Which?\nAnswer: ", "answer": "b"},
    ]
    text = [json.dumps(line) for line in lines]
    path = write(tmp_path / "own.jsonl", text[0], "", *text[1:], "  ")
    record, *_ = read_records(path)
    assert record == Record("The lamp is red.\n", "Question: colour? Answer:", ("red",))
    task = OwnQuestions(str(path))
    first, second, third = task.samples(None)
    assert (first.item, first.context, first.question) == (
        0, "The lamp is red.\n", "Question: colour? Answer:"
    )  # fmt: skip
    assert (second.item, second.context, second.question) == (1, "", "The lamp is")
    assert (third.context, third.question) == ("A.\nB.\n", "Which?\nAnswer:")
    assert [one.item for one in task.samples(None, 1)] == [0]
    assert task.score(" a red one", second) == 1 and task.score(" blue", second) == 0
    assert task.score(" Scarlet red.", second) == 1
    assert task.answer(first) == "red"
    # An answer has the room that it needs itself.
    assert [task.longest_reply(one) for one in (first, second)] == [19, 27]


@pytest.mark.parametrize(
    ("reply", "answer", "found"),
    [
        ("It was Red.", "red", True),
        ("He was tired", "red", False),
        ("It is redder", "red", False),
        ("the year 15", "5", False),
        ("(5)", "5", True),
        ("café", "caf", False),
        ("it costs A$5", "$5", True),
        ("a.b", "a.b", True),
        ("axb", "a.b", False),
        ("答えは赤です", "赤", True),
        ("答えはred", "red", True),
    ],
)
def test_answers_are_found_as_whole_words(reply, answer, found):
    assert has_words(reply, answer) is found


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file(tmp_path, content):
    path = tmp_path / "own.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=r"task file .*own\.jsonl is empty; give one JSON line"):
        read_records(path)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "is no JSON object"),
        ("[]", "is no JSON object"),
        ("3", "is no JSON object"),
        ('{"prompt": "x"}', "has no 'answer'; it is a text, or a list"),
        ('{"prompt": "x", "answer": ""}', "has '' as 'answer'"),
        ('{"prompt": "x", "answer": 3}', "has 3 as 'answer'"),
        ('{"prompt": "x", "answer": []}', "has [] as 'answer'"),
        ('{"prompt": "x", "answer": ["y", " "]}', "has ' ' as 'answer'"),
        ('{"prompt": "  ", "answer": "y"}', "has '  ' as 'prompt'; it is a text:"),
        ('{"text": "x", "answer": "y"}', "has no 'context'"),
        ('{"context": "x", "answer": "y"}', "has no 'question'"),
        ('{"prompt": "x", "question": "?", "answer": "y"}', "has both 'prompt' and 'question'"),
    ],
)
def test_malformed_line_is_named(tmp_path, line, sentence):
    good = json.dumps({"prompt": "a", "answer": "b"})
    with pytest.raises(UserError, match=f"line 2 of .*{re.escape(sentence)}"):
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
    assert read_records(file) == [Record("", "One\u2028two?", ("three",))]

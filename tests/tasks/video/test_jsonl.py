import json

import pytest
from tasks.video.written import touch, write_text

from transfer.errors import UserError
from transfer.tasks.video import VIDEO_TASKS

BENCHMARK = VIDEO_TASKS["jsonl"]
RECORD = {"video": "cats/one.mp4", "question": "What jumps?", "options": ["a cat", "a dog"]}


def write(folder, *records):
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    return write_text(folder / "own.jsonl", *lines)


@pytest.mark.parametrize(
    ("answer", "option"), [(1, 1), (0, 0), ("A", 0), ("b", 1), ("a dog", 1), (None, None)]
)
def test_answers(tmp_path, answer, option):
    [question] = BENCHMARK.read(write(tmp_path, {**RECORD, "answer": answer}))
    assert question.answer == option


def test_a_text_counts_before_a_letter(tmp_path):
    record = {**RECORD, "options": ["B", "A"], "answer": "A"}
    assert BENCHMARK.read(write(tmp_path, record))[0].answer == 1


@pytest.mark.parametrize("form", ["{}. {}", "{}.{}", "{}) {}", "({}) {}"])
def test_letters_that_stand_in_the_options_are_not_said_twice(tmp_path, form):
    lettered = [form.format(*both) for both in zip("AB", RECORD["options"])]
    for answer in (1, "B", "a dog", lettered[1]):
        [question] = BENCHMARK.read(
            write(tmp_path, {**RECORD, "options": lettered, "answer": answer})
        )
        assert (question.options, question.answer) == (("a cat", "a dog"), 1)
    some = ["A. a cat", "a dog"]
    [question] = BENCHMARK.read(write(tmp_path, {**RECORD, "options": some, "answer": some[0]}))
    assert (question.options, question.answer) == (tuple(some), 0)


def test_a_number_is_an_index_unless_it_could_be_another_options_text(tmp_path):
    for options, answer, option in (
        ([3, 4, 5, 6], "3", 0),
        (["0", "1"], 1, 1),
        ([30, 40], 1, 1),
        ([3, 4, 5, 6], "D", 3),
        (["None", "some"], None, None),
    ):
        record = {**RECORD, "options": options, "answer": answer}
        assert BENCHMARK.read(write(tmp_path, record))[0].answer == option
    [broken] = BENCHMARK.read(write(tmp_path, {**RECORD, "options": [3, 4, 5, 6], "answer": 3}))
    assert "has the answer 3, which is the text of one option and the index of another; give" in (
        broken.reason
    )


def test_whole_record(tmp_path):
    more = {"id": "q", "category": "pets", "group": "g", "start": 1, "end": 2.5, "answer": 0}
    path = write(tmp_path, {**RECORD, **more}, "", {**RECORD, "video": "/elsewhere/v.mp4"})
    touch(tmp_path / "cats/one.mp4")
    first, second = BENCHMARK.read(path)
    assert first.video == tmp_path / "cats/one.mp4"
    assert (first.id, first.category, first.group) == ("q", "pets", "g")
    assert (first.start, first.end) == (1.0, 2.5)
    assert str(second.video) == "/elsewhere/v.mp4"
    assert second.id == "own-1"
    assert (second.category, second.group, second.start, second.answer) == ("", "", None, None)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{", "is no JSON object; mend or delete it"),
        ("[1]", "is no JSON object"),
        ({"video": "v.mp4", "question": "Q?"}, "has no list 'options'; add it"),
        ({**RECORD, "options": ["one"]}, "has 1 options; give 2 to 8"),
        ({**RECORD, "question": " "}, "asks nothing"),
        ({**RECORD, "video": ""}, "has no text 'video'"),
        ({**RECORD, "answer": 2}, "has 2 options and its answer is option 2; count from 0 to 1"),
        ({**RECORD, "answer": "C"}, "has 2 options and its answer is option 2"),
        ({**RECORD, "answer": "a cow"}, "has the answer 'a cow', which is none of its options"),
        ({**RECORD, "answer": [0]}, r"has 'answer' [0]; give the index of an option, from 0"),
        ({**RECORD, "start": -1}, "has 'start' -1; use a number of 0 or more"),
        ({**RECORD, "end": float("nan")}, "has 'end' nan"),
        ({**RECORD, "options": ["\ud800", "b"]}, "is no JSON object"),
    ],
)
def test_broken_lines_do_not_end_the_run(tmp_path, record, said):
    question, broken = BENCHMARK.read(write(tmp_path, RECORD, record))
    assert question.id == "own-0"
    assert broken.id == "own-1"
    assert broken.reason.startswith("record own-1 ")
    assert said in broken.reason


def test_lines_end_at_line_feeds_alone(tmp_path):
    path = tmp_path / "own.jsonl"
    record = {**RECORD, "question": "One\u2028two\x85three?"}
    path.write_bytes((json.dumps(record, ensure_ascii=False) + "\r\n").encode() * 2)
    assert [question.question for question in BENCHMARK.read(path)] == [record["question"]] * 2


def test_the_rate_of_a_folder_of_pictures(tmp_path):
    path = write(tmp_path, RECORD, {**RECORD, "folder_fps": 3}, {**RECORD, "folder_fps": "x"})
    one, three, broken = BENCHMARK.read(path)
    assert (one.folder_fps, three.folder_fps) == (1.0, 3.0)
    assert "has 'folder_fps' 'x'" in broken.reason


def test_file_with_byte_order_mark(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(RECORD), encoding="utf-8-sig")
    assert len(BENCHMARK.read(path)) == 1


def test_unusable_files(tmp_path):
    with pytest.raises(UserError, match=r"holds no records of jsonl; check --data"):
        BENCHMARK.read(write_text(tmp_path / "empty.jsonl"))
    with pytest.raises(UserError, match=r"own\.txt is of unknown kind; give a file of \.json, "):
        BENCHMARK.read(write_text(tmp_path / "own.txt", "x"))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"cannot read .*binary\.jsonl \("):
        BENCHMARK.read(tmp_path / "binary.jsonl")
    with pytest.raises(UserError, match=r"cannot read .*one\.json \(it is no list\)"):
        BENCHMARK.read(write_text(tmp_path / "one.json", "{}"))
    with pytest.raises(UserError, match=r"there is no .*absent\.jsonl, and so no \*\.jsonl"):
        BENCHMARK.read(tmp_path / "absent.jsonl")

import json

import pytest
from published import sound

from transfer.errors import UserError
from transfer.tasks.benchmarks.longbench_v2 import TASKS

[TASK] = TASKS.values()
RECORD = {
    "_id": "66f3",
    "domain": "Single-Document QA",
    "sub_domain": "Financial",
    "difficulty": "hard",
    "length": "short",
    "question": " Which?\n",
    "choice_A": "one ",
    "choice_B": " two",
    "choice_C": "three",
    "choice_D": "four",
    "answer": "B",
    "context": "\nA long text. ",
}


def samples(folder, *records):
    (folder / "data.json").write_text(json.dumps(records, indent=2))
    return sound(TASK.samples(folder))


def test_prompt_groups_and_how_it_is_asked(tmp_path):
    [sample] = samples(tmp_path, RECORD)
    assert sample.context + sample.question == (
        "Please read the following text and answer the question below.\n\n<text>\nA long text.\n"
        "</text>\n\nWhat is the correct answer to this question: Which?\nChoices:\n(A) one\n"
        "(B) two\n(C) three\n(D) four\n\n"
        'Format your response as follows: "The correct answer is (insert answer here)".'
    )
    assert sample.context.endswith("A long text.")
    assert dict(sample.groups) == {"difficulty": "hard", "length": "short"}
    assert sample.item == "66f3"
    assert (TASK.cut, TASK.chat, TASK.chance, TASK.new_tokens) == ("joined", True, 0.25, 128)


def test_marks_within_a_document_are_filled_in_as_the_authors_do(tmp_path):
    [sample] = samples(tmp_path, {**RECORD, "context": "$DOC$ $Q$", "question": "$C_A$ $DOC$"})
    assert sample.context.endswith("<text>\n$DOC$ one $DOC$")
    assert "question: one $DOC$\n" in sample.question


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("The correct answer is (B)", 1),
        ("I think **The correct answer is (B)**, not (A).", 1),
        ("The correct answer is B.", 1),
        ("The correct answer is Bismarck", 1),
        ("The correct answer is C. The correct answer is (B)", 1),
        ("The correct answer is (A)", 0),
        ("the correct answer is (B)", 0),
        ("The correct answer is: (B)", 0),
        ("B", 0),
        ("", 0),
    ],
)
def test_score(tmp_path, reply, score):
    [sample] = samples(tmp_path, RECORD)
    assert TASK.score(reply, sample) == score


def test_the_measured_answer_is_right(tmp_path):
    [sample] = samples(tmp_path, RECORD)
    assert TASK.answer(sample) == "The correct answer is (B)"
    assert TASK.score(TASK.answer(sample), sample) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answer": "AB"}, r"has the answer 'AB', not 'A' or 'B' or 'C' or 'D'"),
        ({"answer": ["A"]}, r"has the answer \['A'\], not"),
        ({"difficulty": "Easy"}, r"has the difficulty 'Easy', not 'easy' or 'hard'"),
        ({"length": 5}, r"has the length 5, not 'short' or 'medium' or 'long'"),
        ({"choice_D": None}, r"has the choice_D None, not a text"),
    ],
)
def test_a_bad_record_is_named(tmp_path, changed, said):
    with pytest.raises(UserError, match=rf"^record 2 of .*data\.json {said}"):
        samples(tmp_path, RECORD, {**RECORD, "_id": "other", **changed})

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import published, sound

from transfer.errors import UserError
from transfer.tasks.benchmarks import infinitebench_scores as scores
from transfer.tasks.benchmarks import reading_tasks
from transfer.tasks.benchmarks.infinitebench import TASKS
from transfer.tasks.reading import MadeTask, Sample

REPLIED = [
    "kv_retrieval",
    "longbook_choice_eng",
    "longbook_qa_chn",
    "longbook_qa_eng",
    "longdialogue_qa_eng",
    "math_find",
    "number_string",
    "passkey",
]
OPTIONS = ["Ann", "Bob", "Cid", "Dee"]
RECORDS = {
    "passkey": {"input": "What is the pass key?", "answer": ["01234"]},
    "number_string": {"input": "What is the sequence of digits?", "answer": "0011223344"},
    "kv_retrieval": {"input": '\nKey: "k"\nThe value is: ', "answer": ["v-1"]},
    "longbook_sum_eng": {"answer": ["A man sails.\nHe returns."]},
    "longbook_choice_eng": {"input": "Who?", "answer": ["Cid"], "options": OPTIONS},
    "longbook_qa_eng": {"input": "Who {x}?", "answer": ["Ann", "Bob Brown"]},
    "longbook_qa_chn": {"input": "谁？", "answer": ["王剑英"]},
    "longdialogue_qa_eng": {"input": "", "answer": ["ACE", "ACE ROTHSTEIN"]},
    "math_find": {
        "input": "One number. The second largest number of the list is: ",
        "answer": 58.0,
    },
    "math_calc": {"input": "The value is: ", "context": "1 + 3 + 4", "answer": [[4, 8]]},
    "code_run": {"input": "Give me the value of func_3(-2).", "answer": [-7]},
    "code_debug": {"input": "Which?", "answer": ["Bob", "B"], "options": OPTIONS},
}
KINDS = list(RECORDS)


def written(folder, kind, *changes):
    rows = ({"id": 7, "context": "Text {of} it.", **RECORDS[kind], **change} for change in changes)
    (folder / f"{kind}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def reader(kind):
    task = TASKS[f"infinitebench/{kind}"]
    return task.published if isinstance(task, MadeTask) else task


def sample(folder, kind, **changed):
    [only] = reader(kind).samples(written(folder, kind, changed))
    return only


def prompt(one):
    return f"{one.context}{one.question}{one.prefix}"


def test_twelve_tasks_of_which_six_are_made():
    tasks = reading_tasks("infinitebench")
    assert [task.name.partition("/")[2] for task in tasks] == KINDS
    assert sum(isinstance(task, MadeTask) for task in tasks) == 6
    assert [task.new_tokens for task in tasks] == [
        6, 12, 50, 1200, 40, 40, 40, 40, 3, 30_000, 5, 5
    ]  # fmt: skip
    assert {task.name[14:] for task in tasks if task.chance == 0.25} == {
        "longbook_choice_eng",
        "code_debug",
    }
    assert not any(task.chat for task in tasks)
    assert all(reader(kind).cut == "joined" for kind in KINDS)


@pytest.mark.parametrize("kind", REPLIED)
def test_scores_are_the_authors(kind):
    folder = published("infinitebench")
    golden = json.loads((folder / "expected_scores.json").read_text())[f"gpt4/{kind}"]
    task, found = TASKS[f"infinitebench/{kind}"], []
    for line in (folder / "preds_gpt4" / f"preds_{kind}.jsonl").read_text().splitlines():
        record = json.loads(line)
        right = record["ground_truth"]
        answers = tuple(map(str, right if isinstance(right, list) else [right]))
        found.append(task.score(record["prediction"], Sample(0, "", "", answers)))
    assert found == pytest.approx(golden["per_record"], abs=5.1e-7)
    assert 100 * sum(found) / len(found) == pytest.approx(golden["score"], abs=5.1e-5)


@pytest.mark.parametrize(
    ("rule", "reply", "answers", "right"),
    [
        ("first_integer", "key: 0123.", ["0123"], 1),
        ("first_integer", "key: 123.", ["0123"], 0),
        ("first_integer", "12 is not 0123", ["0123"], 0),
        ("first_integer", "none", ["0123"], 0),
        ("first_number", "It is 58, not 3", ["58"], 1),
        ("first_number", "58.0", ["58"], 1),
        ("first_number", "58.", ["58"], 1),
        ("first_number", "58.5", ["58"], 0),
        ("first_number", "-58", ["58"], 1),
        ("first_number", "fifty", ["58"], 0),
        ("last_integer", "x is 3. So the value is -7.", ["-7"], 1),
        ("last_integer", "-7 it is", ["-7"], 0),
        ("last_integer", "`-7`\n", ["-7"], 1),
        ("last_integer", "7", ["-7"], 0),
        ("last_integer", " ", ["-7"], 0),
        ("last_integer", "9" * 5000, ["-7"], 0),
        ("right_beginning", "[4, 8, 9]", ["[4, 8, 7]"], 2 / 3),
        ("right_beginning", "1 4 8 7", ["[4, 8, 7]"], 0),
        ("right_beginning", "[1, 4, 8, 0]", ["[4, 8, 7]", "1"], 2 / 3),
        ("right_beginning", "[2, 4, 8, 7]", ["[4, 8, 7]", "1"], 0),
        ("right_beginning", "4 8 7 1 1", ["[4, 8, 7]", "4"], 1),
        ("right_beginning", "04, 8", ["[4, 8, 7]"], 2 / 3),
        ("right_beginning", "1" * 5000, ["[4, 8, 7]"], 0),
        ("right_beginning", "", ["[4, 8, 7]"], 0),
        ("word_within", 'is: "a-1".', ["a-1"], 1),
        ("word_within", "a-12", ["a-1"], 0),
        ("name_within", "ace, I think", ["ACE", "BOB"], 1),
        ("name_within", "bob", ["ACE", "BOB"], 0),
        ("name_within", "the gang", ["THE GANG"], 0),
        ("chosen", " C. It is", ["Cid", "C"], 1),
        ("chosen", "Cid", ["Cid", "C"], 1),
        ("chosen", "Dee or C", ["Cid", "C"], 0),
        ("chosen", "cid: the answer is: C", ["Cid", "C"], 1),
        ("chosen", "the answer is Cid", ["Cid", "C"], 1),
        ("chosen", "the answer is", ["Cid", "C"], 0),
        ("chosen", "maybe (AB) or C", ["Cid", "C"], 1),
        ("chosen", "maybe AB or C", ["Cid", "C"], 0),
        ("chosen", "the answer is C", ["Cid", "C"], 1),
        ("chosen", "the answer isn't C", ["Cid", "C"], 0),
        ("chosen", "", ["Cid", "C"], 0),
        ("function_chosen", " B. no", ["fn", "B"], 1),
        ("function_chosen", "B: no", ["fn", "B"], 1),
        ("function_chosen", "B", ["fn", "B"], 0),
        ("function_chosen", "The correct option is: Option B", ["fn", "B"], 1),
        ("function_chosen", "the error is: `fn`", ["fn", "B"], 1),
        ("function_chosen", "answer: A or B", ["fn", "B"], 0),
        ("best_word_f1", "The Bob, brown!", ["ann", "Bob"], 2 / 3),
        ("best_character_f1", "王， 剑！", ["王剑英"], 0.8),
        ("best_character_f1", "！", ["王剑英"], 0),
        ("rouge_l_sum", "A man sails.\nHe returns.", ["x", "A man sails.\nHe returns."], 1),
        # Lines are sentences: of their 3 and 2 words each has its own common part with the reply.
        ("rouge_l_sum", "he returns a man sails", ["A man sails.\nHe returns."], 1),
        ("rouge_l_sum", "man sailing", ["a man sails"], 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)),
    ],
)
def test_scores_by_hand(rule, reply, answers, right):
    assert getattr(scores, rule)(reply, answers) == pytest.approx(right)


@given(st.text(), st.text(min_size=1))
def test_scores_are_shares_and_texts_like_themselves(reply, answer):
    for rule in (scores.best_word_f1, scores.best_character_f1, scores.word_within):
        assert 0 <= rule(reply, [answer]) <= 1
    for rule in (scores.best_word_f1, scores.best_character_f1):
        assert rule(reply, [answer]) == pytest.approx(rule(answer, [reply]))
        assert rule(answer, [answer]) in (0, 1)


@given(st.lists(st.integers(0, 99), min_size=1), st.lists(st.integers(0, 99)), st.integers(0, 99))
def test_the_right_beginning_grows_by_one(values, more, first):
    for known in range(len(values) + 1):
        wrong = [] if known == len(values) else [values[known] + 100]
        reply = str([first, *values[:known], *wrong, *more])
        assert scores.right_beginning(reply, [str(values), str(first)]) >= known / len(values)
        plain = str([*values[:known], *wrong, *more])
        assert scores.right_beginning(plain, [str(values)]) == known / len(values)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(UserError, match=r"rouge_score .*pip install 'namm-transfer\[benchmarks\]'"):
        scores.rouge_l_sum("a", ["a"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_likely_answer_is_right(tmp_path, kind):
    task, one = TASKS[f"infinitebench/{kind}"], sample(tmp_path, kind)
    answer = task.answer(one)
    assert task.score(answer, one) == 1
    assert task.score("nothing of it", one) == 0


def test_prompts(tmp_path):
    assert prompt(sample(tmp_path, "passkey")) == (
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize"
        " it. I will quiz you about the important information.\n\nText {of} it.\n\n"
        "What is the pass key?\n\nThe pass key is"
    )
    choice = sample(tmp_path, "longbook_choice_eng")
    assert choice.context == "Read the book and answer the question.\n\nText {of} it."
    assert choice.question == "\n\nQuestion: Who?\nA. Ann\nB. Bob\nC. Cid\nD. Dee\n\n"
    assert choice.prefix == "The letter of the correct answer is"
    find = sample(tmp_path, "math_find")
    assert (
        find.context == "What is the second largest number in the following list?\n\nText {of} it."
    )
    assert find.question == "\n\nOne number. The second largest number of the list is: "
    run = sample(tmp_path, "code_run")
    assert prompt(run) == (
        "There is a function called func_3 in the following Python code.\n\nText {of} it.\n\n"
        "Please compute the exact value of func_3(-2). The value of func_3(-2) is"
    )
    assert sample(tmp_path, "longbook_qa_eng").question == "\n\nQuestion: Who {x}?\n"
    calc = sample(tmp_path, "math_calc")
    assert prompt(calc).endswith("Values: [8, 5, 7, 3]\n\nExpression: 1 + 3 + 4\nValues:")
    assert TASKS["infinitebench/math_calc"].answer(calc) == "[1, 4, 8]"


def test_records_are_numbered(tmp_path):
    folder = written(tmp_path, "passkey", {}, {"answer": ["00000"]}, {})
    read = list(reader("passkey").samples(folder))
    assert [(one.item, one.answers[0]) for one in read] == [
        (0, "01234"),
        (1, "00000"),
        (2, "01234"),
    ]
    assert list(reader("passkey").samples(folder, 2)) == read[:2]
    # A made task takes them as well, where it is given them.
    assert list(TASKS["infinitebench/passkey"].published.samples(folder, 2)) == read[:2]


@pytest.mark.parametrize(
    ("kind", "changed", "sentence"),
    [
        ("passkey", {"answer": []}, "no 'answer' that is a text, a number or a list of them"),
        ("passkey", {"answer": None}, "no 'answer'"),
        ("passkey", {"answer": [True]}, "no 'answer'"),
        ("passkey", {"answer": {"a": 1}}, "no 'answer'"),
        ("passkey", {"context": 3}, "the context 3, not a text"),
        ("longbook_choice_eng", {"options": OPTIONS[:3]}, "has 3 options, not 4"),
        ("longbook_choice_eng", {"options": "ABCD"}, "the options 'ABCD', not a list of texts"),
        ("longbook_choice_eng", {"answer": "Eve"}, "which is none of its options"),
        ("code_debug", {"answer": ["Bob", "E"]}, "which is none of its options"),
        ("code_run", {"input": "Run it."}, "calls no function such as"),
        ("code_run", {"answer": "seven"}, "the answer 'seven', which is no number"),
        ("math_find", {"input": "Find it."}, "does not say in its 'input' what"),
        ("math_find", {"answer": "most"}, "the answer 'most', which is no number"),
        ("math_calc", {"answer": ["x"]}, "the answer 'x', which is no number"),
        ("math_calc", {"context": "one plus two"}, "has no number in its 'context'"),
    ],
)
def test_odd_records_are_named(tmp_path, kind, changed, sentence):
    folder = written(tmp_path, kind, {}, changed)
    with pytest.raises(UserError, match=rf"^line 2 of .*{kind}\.jsonl .*{sentence}"):
        sound(reader(kind).samples(folder))


@pytest.mark.parametrize("field", ["context", "input", "options"])
def test_a_missing_field_is_named(tmp_path, field):
    row = {"context": "Text.", **RECORDS["longbook_choice_eng"]}
    del row[field]
    (tmp_path / "longbook_choice_eng.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=rf"line 1 of .* has no field '{field}'"):
        sound(reader("longbook_choice_eng").samples(tmp_path))

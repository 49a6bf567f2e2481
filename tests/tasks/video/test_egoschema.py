import pytest
from tasks.video.written import touch, write_json, write_text

from transfer.errors import UserError
from transfer.tasks.video import VIDEO_TASKS

BENCHMARK = VIDEO_TASKS["egoschema"]
TEXTS = ["C cooks.", "C cleans.", "C reads.", "C builds.", "C sleeps."]
OWN = {"q_uid": "0074f737", "question": "What does C do?"} | {
    f"option {place}": text for place, text in enumerate(TEXTS)
}


def test_authors_files(tmp_path):
    write_json(tmp_path / "questions.json", [OWN, {**OWN, "q_uid": "ffff"}])
    touch(tmp_path / "videos/0074f737.mp4")
    questions = BENCHMARK.read(tmp_path)
    assert [one.id for one in questions] == ["0074f737", "ffff"]
    # nobody but the authors knows the answers
    assert [one.answer for one in questions] == [None, None]
    assert questions[0].options == tuple(TEXTS)
    assert questions[0].video == tmp_path / "videos/0074f737.mp4"
    said = list(zip(questions, (4, None), ("E", "who knows")))
    assert BENCHMARK.submission(said) == {"0074f737": 4}
    write_json(tmp_path / "subset_answers.json", {"ffff": 3})
    [question] = BENCHMARK.read(tmp_path)
    assert (question.id, question.answer) == ("ffff", 3)


def test_rows_of_the_hub(tmp_path):
    options = [f"{letter}. {text}" for letter, text in zip("ABCDE", TEXTS)]
    row = '{"question_idx": "1", "question": "Q?", "video_idx": "ab", "option": %s, "answer": %s}'
    listed = str(options).replace("'", '"')
    write_text(tmp_path / "subset.jsonl", row % (listed, '"2"'))
    [question] = BENCHMARK.read(tmp_path)
    assert (question.id, question.answer, question.options) == ("ab", 2, tuple(TEXTS))
    assert BENCHMARK.prompt(question, ()).parts[1] == (
        "\nQ?\nA. C cooks.\nB. C cleans.\nC. C reads.\nD. C builds.\nE. C sleeps.\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert BENCHMARK.parse("C reads.", question) == 2
    assert BENCHMARK.parse("C", question) == 2


def test_answers_of_other_questions(tmp_path):
    write_json(tmp_path / "questions.json", [OWN])
    write_json(tmp_path / "subset_answers.json", {"other": 3})
    with pytest.raises(UserError, match="answers none of the questions"):
        BENCHMARK.read(tmp_path)
    write_json(tmp_path / "subset_answers.json", [3])
    with pytest.raises(UserError, match=r"cannot read .*subset_answers.json \(it is no dict\)"):
        BENCHMARK.read(tmp_path)

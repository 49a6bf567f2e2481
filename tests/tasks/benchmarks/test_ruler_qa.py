"""RULER's questions about documents, from files in the layouts of SQuAD and HotpotQA."""

import json
import re

import pytest
from tasks.words import word_tokenizer

from transfer.errors import UserError
from transfer.tasks.benchmarks import reading_tasks

SQUAD, HOTPOTQA = "dev-v2.0.json", "hotpot_dev_distractor_v1.json"
(QA_1,), (QA_2,) = reading_tasks("ruler/qa_1"), reading_tasks("ruler/qa_2")


def squad(articles=4):
    def asked(place, impossible):
        answers = [] if impossible else [{"text": f"City {place}"}, {"text": f"the city {place}"}]
        return {"question": f"Capital of {place}?", "is_impossible": impossible, "answers": answers}

    def paragraph(place):
        context = f"The capital of {place} is City {place}. " + "It lies at a river. " * 5
        return {"context": context, "qas": [asked(place, True), asked(place, False)]}

    return {
        "data": [
            {"paragraphs": [paragraph(f"{article}-{number}") for number in range(3)]}
            for article in range(articles)
        ]
    }


def hotpotqa(questions=3):
    return [
        {
            "question": f"Who made film {film}?",
            "answer": f"Maker {film}",
            "context": [[f"Title {film}-{at}", ["One. ", f"Two of {at}."]] for at in range(10)],
        }
        for film in range(questions)
    ]


@pytest.fixture(scope="module")
def words():
    return word_tokenizer()


@pytest.fixture
def data(tmp_path):
    (tmp_path / SQUAD).write_text(json.dumps(squad()))
    (tmp_path / HOTPOTQA).write_text(json.dumps(hotpotqa()))
    return tmp_path


def documents(sample):
    found = re.findall(r"Document (\d+):\n(.*?)\n(?=\nDocument|\nAnswer|\n$)", sample.context, re.S)
    assert [int(number) for number, _ in found] == [*range(1, len(found) + 1)]
    return [text for _, text in found]


def test_the_document_stands_among_those_of_its_article_and_others(words, data):
    [sample] = QA_1.samples(2048, (4,), words, data=data)
    own = squad()["data"][1]["paragraphs"]
    assert sample.answers == ("City 1-1", "the city 1-1")
    told = documents(sample)
    assert told.count(own[1]["context"]) == 1
    assert {own[0]["context"], own[2]["context"]} <= set(told)
    assert len(told) > 6
    task = "Answer the question based on the given documents. Only give me the answer and do not "
    assert sample.context.startswith(f"{task}output any other words.\n\nThe following are given")
    assert sample.question == f"{task}output any other words.\n\nQuestion: Capital of 1-1?"
    assert (sample.prefix, QA_1.answer(sample)) == (" Answer:", " City 1-1")
    assert QA_1.score("I say CITY 1-1.", sample) == 1


def test_a_question_of_ten_documents_has_all_of_them(words, data):
    for sample in QA_2.samples(2048, (0, 2), words, data=data / HOTPOTQA):
        told = documents(sample)
        assert {f"Title {sample.item}-{at}\nOne. Two of {at}." for at in range(10)} <= set(told)
        assert sample.answers == (f"Maker {sample.item}",)
        used = words(f"{sample.context}{sample.question}{sample.prefix}")["input_ids"]
        assert 2048 - 80 < len(used) + 32 <= 2048


def test_documents_come_again_where_there_are_too_few(words, data):
    [sample] = QA_1.samples(8192, (0,), words, data=data)
    told = documents(sample)
    assert (
        len(told) > 3 * len(set(told))
        and told.count(squad()["data"][0]["paragraphs"][0]["context"]) == 1
    )


def test_its_own_documents_stand_at_a_depth(words, data):
    first, last = QA_2.samples(2048, (1,), words, depths=(0.0, 1.0), data=data)
    assert (first.item, last.item, last.groups) == ("1@0", "1@1", {"depth": "1"})
    assert first.cluster == last.cluster == 1
    own = [f"Title 1-{at}\nOne. Two of {at}." for at in range(10)]
    assert documents(first)[:10] == own == documents(last)[-10:]


def test_without_data_the_file_is_named(words):
    for task, file in ((QA_1, SQUAD), (QA_2, HOTPOTQA)):
        with pytest.raises(UserError, match=f"{task.name} asks about .* give {file}"):
            list(task.samples(2048, (0,), words))


def test_a_folder_without_the_file_is_named(words, data):
    (data / SQUAD).unlink()
    with pytest.raises(UserError, match=f"has no questions for ruler/qa_1; put {SQUAD}"):
        list(QA_1.samples(2048, (0,), words, data=data))
    (data / "squad.json").write_text(json.dumps(squad()))
    assert list(QA_1.samples(2048, (0,), words, data=data))


def test_which_data_it_lacks(data):
    essay = data / "essay.txt"
    essay.write_text("An essay.")
    for task, file, other in ((QA_1, SQUAD, HOTPOTQA), (QA_2, HOTPOTQA, SQUAD)):
        lacking = (None, data / other, essay, data / "absent")
        assert [task.lacks(each) for each in lacking] == [True] * 4
        assert not task.lacks(data) and not task.lacks(data / file)
    (data / SQUAD).unlink()
    assert QA_1.lacks(data) and not QA_2.lacks(data)
    assert not any(task.lacks(None) for task in reading_tasks("ruler")[:-2])


def test_needles_are_in_prose_where_data_are_questions_alone(words, data):
    [needles] = reading_tasks("ruler/niah_single_2")

    def text(data):
        [sample] = needles.samples(1024, (0,), words, data=data)
        return sample.context

    assert text(data) == text(data / SQUAD) == text(data / HOTPOTQA) == text(None)
    (data / "essay.txt").write_text("An essay of mine.")
    assert "An essay of mine. An essay" in text(data)


def test_questions_that_are_not_there_are_refused(words, data):
    with pytest.raises(UserError, match="has 3 questions, and number 3 from 0 is asked for"):
        list(QA_2.samples(2048, (2, 3), words, data=data))


@pytest.mark.parametrize(
    ("task", "content", "said"),
    [
        (QA_1, [], "question 0 from 0 of .* not in the layout of SQuAD"),
        (QA_1, {"data": []}, "has no questions"),
        (QA_1, {"data": [{"paragraphs": [{"context": "A."}]}]}, "KeyError: 'qas'"),
        (QA_1, {"data": [{"paragraphs": squad()["data"][0]["paragraphs"][:1]}]}, "no documents"),
        (QA_2, {"data": []}, "not in the layout of HotpotQA"),
        (QA_2, [*hotpotqa(2), {"question": "?", "context": []}], "question 2 from 0 of"),
        (QA_2, [{**hotpotqa(1)[0], "answer": 7}], "7 is no text"),
        (QA_2, [{**hotpotqa(1)[0], "context": ["Title"]}], "question 0 from 0"),
        (QA_2, [{**hotpotqa(1)[0], "context": []}], "None is no text"),
    ],
)
def test_another_layout_is_one_sentence(words, tmp_path, task, content, said):
    file = tmp_path / "questions.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=said) as error:
        list(task.samples(2048, (0,), words, data=file))
    assert str(file) in str(error.value) and "\n" not in str(error.value)

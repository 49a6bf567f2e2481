import json
from dataclasses import replace

import pytest
from published import published, sound

from transfer.errors import UserError
from transfer.tasks.benchmarks import reading_tasks
from transfer.tasks.benchmarks.longbench import TASKS

NAMES = [task.subset for task in reading_tasks("longbench")]
IN_E = {task.subset for task in reading_tasks("longbench-e")}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(task="qasper", **changed):
    return {
        "_id": "one",
        "input": "Who?",
        "context": "Ann did it. {input}",
        "answers": ["Ann"],
        "length": 5,
        "dataset": task,
        "language": "en",
        "all_classes": None,
        **changed,
    }


def written(folder, *records, task="qasper"):
    path = folder / f"{task}.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_authors(name):
    folder = published("longbench")
    golden = json.loads((folder / "mini_expected_scores.json").read_text())[name]
    task = TASKS[f"longbench/{name}"]
    samples = {sample.item: sample for sample in task.samples(folder / "mini_as_longbench")}
    replies = {r["_id"]: r["pred"] for r in lines(folder / "mini_predictions" / f"{name}.jsonl")}
    scores = {item: task.score(replies[item], sample) for item, sample in samples.items()}
    assert scores == pytest.approx(golden["per_record"], abs=5.1e-7)
    assert round(100 * sum(scores.values()) / len(scores), 2) == golden["score"]


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_the_authors(name):
    folder = published("longbench")
    prompt = json.loads((folder / "config" / "dataset2prompt.json").read_text())[name]
    task = TASKS[f"longbench/{name}"]
    data = folder / "mini_as_longbench"
    for sample, read in zip(task.samples(data), lines(data / f"{name}.jsonl"), strict=True):
        assert sample.context + sample.question == prompt.format(**read)
        assert sample.context.endswith(read["context"])
        assert sample.answers == tuple(read["answers"])
        assert not sample.prefix
    lengths = json.loads((folder / "config" / "dataset2maxlen.json").read_text())
    assert task.new_tokens == lengths[name]


def test_who_is_asked_in_a_chat_and_who_ends_at_a_newline():
    assert len(NAMES) == 21 and len(IN_E) == 13
    bare = {"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"}
    for task in reading_tasks("longbench") + reading_tasks("longbench-e"):
        assert task.chat == (task.subset not in bare)
        assert task.ends_at_newline == (task.subset == "samsum")
        assert task.cut == "halves"
        assert task.name == f"{task.family}/{task.subset}"
    chances = {task.subset: task.chance for task in reading_tasks("longbench") if task.chance}
    assert chances == {
        "trec": 1 / 50,
        "lsht": 1 / 24,
        "passage_retrieval_en": 1 / 30,
        "passage_retrieval_zh": 1 / 30,
    }


def test_best_answer_counts_and_examples_end_with_their_first_line(tmp_path):
    task = TASKS["longbench/qasper"]
    [sample] = task.samples(written(tmp_path, record(answers=["Ann did", "Bob"])))
    assert task.score("Bob", sample) == 1
    assert task.score("Ann", sample) == pytest.approx(2 / 3)
    assert task.score("\nBob\nNo", sample) == pytest.approx(2 / 3)
    assert TASKS["longbench/triviaqa"].score("\n\nBob\nNo", sample) == 1
    assert task.answer(sample) == "Ann did"


def test_braces_of_a_document_are_its_own(tmp_path):
    [sample] = TASKS["longbench/qasper"].samples(written(tmp_path, record(input="{context} {x}")))
    assert sample.context.endswith("Article: Ann did it. {input}")
    assert sample.question.endswith("Question: {context} {x}\n\nAnswer:")


@pytest.mark.parametrize(
    ("length", "group"),
    [(0, "0-4k"), (3999, "0-4k"), (4000, "4-8k"), (7999, "4-8k"), (8000, "8k+"), (10**6, "8k+")],
)
def test_e_reports_by_length(tmp_path, length, group):
    written(tmp_path, record(), task="qasper")
    written(tmp_path, record(_id="other", length=length), task="qasper_e")
    [task] = reading_tasks("longbench-e/qasper")
    [sample] = task.samples(tmp_path)
    assert (sample.item, dict(sample.groups)) == ("other", {"length": group})
    [plain] = TASKS["longbench/qasper"].samples(tmp_path)
    assert (plain.item, dict(plain.groups)) == ("one", {})
    assert replace(sample, item="one", groups={}) == plain


@pytest.mark.parametrize(
    ("task", "changed", "said"),
    [
        ("qasper", {"answers": "Ann"}, r"has the answers 'Ann', not a list of texts"),
        ("qasper", {"answers": []}, r"has the answers \[\], not a list of texts"),
        ("qasper", {"answers": [1]}, r"has the answers \[1\], not a list of texts"),
        ("qasper", {"input": None}, r"has the input None, not a text"),
        ("qasper", {"_id": ""}, r"has the _id '', not a text or a whole number"),
        ("qasper", {"_id": "zero"}, r"has the _id of line 1 of .*qasper\.jsonl, 'zero'"),
        ("qasper", {"dataset": "trec"}, r"is of 'trec', not 'qasper'"),
        ("trec", {}, r"has the all_classes None, not a list of texts"),
        ("passage_retrieval_en", {}, r"has answers .* \(Paragraph "),
        ("passage_retrieval_zh", {"answers": ["Paragraph 3"]}, r"has answers .* \(段落"),
    ],
)  # fmt: skip
def test_a_bad_record_is_named(tmp_path, task, changed, said):
    good = {"answers": ["Paragraph 1段落1"], "all_classes": ["a"], "_id": "zero"}
    written(tmp_path, record(task, **good), record(task, **changed), task=task)
    with pytest.raises(UserError, match=rf"^line 2 of .*{task}\.jsonl {said}"):
        sound(TASKS[f"longbench/{task}"].samples(tmp_path))


@pytest.mark.parametrize("name", ["_id", "input", "context", "answers", "length"])
def test_a_missing_field_is_named(tmp_path, name):
    lacking = record()
    del lacking[name]
    written(tmp_path, lacking, task="qasper_e")
    [task] = reading_tasks("longbench-e/qasper")
    with pytest.raises(UserError, match=rf"^line 1 of .* has no field '{name}' \(it has '"):
        sound(task.samples(tmp_path))


@pytest.mark.parametrize("length", [-1, 1.5, "9", None, True])
def test_a_length_is_a_whole_number(tmp_path, length):
    written(tmp_path, record(length=length), task="qasper_e")
    [task] = reading_tasks("longbench-e/qasper")
    with pytest.raises(UserError, match=r"^line 1 of .* has the length .*, not a whole number"):
        sound(task.samples(tmp_path))

import json

import pyarrow
import pytest
from published import sound
from pyarrow import parquet

from transfer.errors import UserError
from transfer.tasks.benchmarks import babilong, reading_tasks
from transfer.tasks.benchmarks.babilong import LENGTHS, TASKS
from transfer.tasks.reading import Sample

QA1 = TASKS["babilong/qa1"]


def rows(count, name="", **changed):
    record = {"question": "Where is Mary?", "target": "kitchen"}
    return [{**record, "input": f" Text {name}{n}. \n", **changed} for n in range(count)]


def as_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def as_parquet(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(content), path)


def items(data, most=None, task=QA1):
    return [sample.item for sample in sound(task.samples(data, most))]


def score(kind, reply, target, question):
    sample = Sample(0, "", f"\n\nQuestion: {question}", (target,))
    return TASKS[f"babilong/{kind}"].score(reply, sample)


def test_twenty_tasks():
    tasks = reading_tasks("babilong")
    assert [task.name for task in tasks] == [f"babilong/qa{number}" for number in range(1, 21)]
    assert all(task.chat and task.new_tokens == 20 for task in tasks)
    assert [QA1.chance, TASKS["babilong/qa6"].chance] == [1 / 6, 1 / 2]


def test_prompt(tmp_path):
    [sample] = QA1.samples(as_json(tmp_path / "data" / "qa1" / "4k.json", rows(1)))
    assert sample.context.startswith(
        "I will give you context with the facts about positions of different persons hidden in some"
        " random text and a question. "
    )
    assert sample.context.endswith(
        "answer the question.\n\n<example>\nCharlie went to the hallway. Judith come back to the"
        " kitchen. Charlie travelled to balcony. Where is Charlie?\nAnswer: The most recent"
        " location of Charlie is balcony.\n</example>\n\n<example>\nAlan moved to the garage."
        " Charlie went to the beach. Alan went to the shop. Rouse travelled to balcony. Where is"
        " Alan?\nAnswer: The most recent location of Alan is shop.\n</example>\n\nAlways return"
        " your answer in the following format: The most recent location of ’person’ is ’location’."
        " Do not write anything else after that.\n\n<context>\nText 0.\n</context>"
    )
    assert sample.question == "\n\nQuestion: Where is Mary?"
    assert (sample.answers, sample.groups) == (("kitchen",), {"length": "4k"})


def test_layouts(tmp_path):
    as_json(tmp_path / "old" / "data" / "qa1" / "0k.json", rows(2))
    as_json(tmp_path / "old" / "data" / "qa1" / "16k.json", rows(2))
    as_json(tmp_path / "old" / "data" / "qa2" / "0k.json", rows(2))
    as_parquet(tmp_path / "old" / "qa1" / "0k-00000-of-00001.parquet", rows(5))
    for part, count in enumerate((2, 1)):
        path = tmp_path / "parts" / "2k" / f"qa1-0000{part}-of-00002.parquet"
        as_parquet(path, rows(count, part))
    as_parquet(tmp_path / "viewer" / "128k" / "qa1" / "0000.parquet", rows(1))
    assert items(tmp_path / "old") == ["0k-0", "16k-0", "0k-1", "16k-1"]
    assert items(tmp_path / "old", 3) == ["0k-0", "16k-0", "0k-1"]
    assert items(tmp_path / "old" / "data" / "qa1" / "16k.json") == ["16k-0", "16k-1"]
    assert items(tmp_path / "parts") == items(tmp_path / "parts" / "2k") == ["2k-0", "2k-1", "2k-2"]
    assert items(tmp_path / "viewer") == ["128k-0"]
    assert items(as_json(tmp_path / "qa1.json", rows(2))) == [0, 1]
    [one, _] = QA1.samples(tmp_path / "qa1.json")
    assert one.groups == {}


def test_the_lengths_take_turns_shortest_first(tmp_path):
    for length in LENGTHS:
        as_json(tmp_path / "qa1" / f"{length}.json", rows(1 + (length == "64k")))
    assert items(tmp_path) == [*(f"{length}-0" for length in LENGTHS), "64k-1"]


def test_without_data_the_shorter_files_are_fetched(tmp_path, monkeypatch):
    for length in ("0k", "1k", "2k", "4k", "8k", "16k", "32k"):
        as_json(tmp_path / "data" / "qa1" / f"{length}.json", rows(1))
    asked = []

    def fetch(repo, repo_type, allow_patterns):
        asked.append((repo, repo_type, *allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert items(None) == [f"{length}-0" for length in babilong.FETCHED]
    assert {one[:2] for one in asked} == {("RMT-team/babilong", "dataset")}
    assert {pattern for one in asked for pattern in one[2:]} == {
        f"data/qa1/{length}.json" for length in babilong.FETCHED
    }


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"target": "balcony"}, "has the target 'balcony', which qa1 never has"),
        ({"target": 3}, "has the target 3, not a text"),
        ({"question": None}, "has the question None, not a text"),
        ({"input": ["a"]}, r"has the input \['a'\], not a text"),
    ],
)
def test_odd_records_are_named(tmp_path, row, sentence):
    path = as_json(tmp_path / "qa1" / "0k.json", [*rows(1), *rows(1, **row)])
    with pytest.raises(UserError, match=rf"^record 2 of .*0k\.json {sentence}"):
        items(path)


def test_a_missing_field_is_named(tmp_path):
    path = as_json(tmp_path / "qa1" / "0k.json", [{"input": "Text.", "target": "kitchen"}])
    with pytest.raises(UserError, match=r"record 1 of .*0k\.json has no field 'question'"):
        items(path)


def test_data_of_another_layout(tmp_path):
    path = as_json(tmp_path / "qa2" / "0k.json", rows(1))
    # What a file alone is of, only its path says.
    for other in (path, as_json(tmp_path / "mine.json", rows(1))):
        with pytest.raises(UserError, match=r"json is not of babilong/qa1, by its path; give qa1/"):
            items(other)
    with pytest.raises(UserError, match=r"has no qa1/4k\.json or the like; give the data"):
        items(tmp_path)
    with pytest.raises(UserError, match=r"there is no file or folder .*absent; check --data"):
        items(tmp_path / "absent")
    with pytest.raises(UserError, match=r"all\.zip is zipped, which this data never is; give the"):
        items(tmp_path / "all.zip")


@pytest.mark.parametrize(
    ("kind", "reply", "target", "question", "right"),
    [
        ("qa1", "The most recent location of Mary is Kitchen. Not garden.", "kitchen", "Mary?", 1),
        ("qa1", "kitchen or garden", "kitchen", "Where is Mary?", 0),
        ("qa1", "garden, not kitchen", "kitchen", "Where before the garden?", 1),
        ("qa1", "balcony", "kitchen", "Where is Mary?", 0),
        ("qa1", "hallway<context>kitchen", "hallway", "Where is Mary?", 1),
        ("qa1", "hallway <EXAMPLE> kitchen", "hallway", "Where is Mary?", 1),
        ("qa1", ". kitchen", "kitchen", "Where is Mary?", 0),
        ("qa5", "BILL", "Bill", "Who gave the milk to Fred?", 1),
        ("qa6", "Yes", "yes", "Is Mary in the office?", 1),
        ("qa6", "yes, now", "yes", "Is Mary in the office?", 0),
        ("qa8", "milk and apple", "apple,milk", "What is Mary carrying?", 1),
        ("qa8", "milk", "apple,milk", "What is Mary carrying?", 0),
        ("qa8", "milk, apple, football", "apple,milk", "What is Mary carrying?", 0),
        ("qa8", "nothing", "nothing", "What is Mary carrying?", 1),
        ("qa19", "n,w", "n,w", "How do you go?", 1),
        ("qa19", "n,w,s", "n,w", "How do you go?", 0),
    ],
)
def test_scores_by_hand(kind, reply, target, question, right):
    assert score(kind, reply, target, question) == right


@pytest.mark.parametrize("kind", [f"qa{number}" for number in range(1, 21)])
def test_each_label_is_right_and_another_is_wrong(kind):
    task = TASKS[f"babilong/{kind}"]
    for right in task.labels:
        # By the authors' rule "none" says "one" as well.
        assert score(kind, f"It is {right}.", right, "?") == (right != "none")
        others = [label for label in task.labels if label not in right and right not in label]
        assert score(kind, f"It is {right} {others[0]}.", right, "?") == 0

import json
import sys

import pyarrow
import pytest
from published import published, sound
from pyarrow import parquet

from transfer.errors import UserError
from transfer.tasks.benchmarks import choubun, reading_tasks
from transfer.tasks.benchmarks.choubun import TASKS
from transfer.tasks.reading import Sample

QA = TASKS["choubun/wiki_qa"]
SUM = TASKS["choubun/corp_sec_sum"]
RECORD = {
    "_id": "a1",
    "context": "東京は{日本}の首都。",
    "input": "首都は？",
    "answers": ["東京", "東京都"],
    "length": 9,
    "all_classes": None,
}


def written(folder, kind, *rows):
    (folder / kind).mkdir()
    table = pyarrow.Table.from_pylist([{**RECORD, **row} for row in rows])
    parquet.write_table(table, folder / kind / "test-00000-of-00001.parquet")
    return folder


def score(task, reply, *answers):
    return task.score(reply, Sample("a1", "", "", answers))


def test_prompts_and_lengths_are_the_authors():
    folder = published("choubun")
    prompts = json.loads((folder / "dataset2prompt.json").read_text())
    lengths = json.loads((folder / "dataset2maxlen.json").read_text())
    assert [task.name for task in reading_tasks("choubun")] == [
        f"choubun/{name}" for name in prompts
    ]
    for name, prompt in prompts.items():
        task = TASKS[f"choubun/{name}"]
        assert f"{task.before}{{context}}{task.after}" == prompt
        assert task.new_tokens == lengths[name]
        assert not task.chat


def test_records(tmp_path):
    [sample] = QA.samples(written(tmp_path, "wiki_qa", {}))
    assert (sample.item, sample.answers) == ("a1", ("東京", "東京都"))
    assert sample.context.endswith("抽出してください。\n### 文書 ###\n東京は{日本}の首都。")
    assert sample.question == "\n### 質問 ###\n首都は？\n### 回答 ###\n"
    assert sample.prefix == ""


def test_a_summary_has_no_question(tmp_path):
    rows = [{"_id": str(number), "input": None} for number in range(3)]
    samples = list(SUM.samples(written(tmp_path, "corp_sec_sum", *rows), 2))
    assert [sample.item for sample in samples] == ["0", "1"]
    assert samples[0].question == "\n### 要約 ###\n"
    with pytest.raises(UserError, match=r"record 1 of .*\.parquet has the input None, not a text"):
        sound(QA.samples(written(tmp_path, "wiki_qa", {"input": None})))


def test_the_file_of_another_task_is_refused(tmp_path):
    file = written(tmp_path, "corp_sec_sum", {}) / "corp_sec_sum" / "test-00000-of-00001.parquet"
    assert len(list(SUM.samples(file))) == 1
    with pytest.raises(UserError, match=rf"^{file} is not called wiki_qa, as the data of that "):
        list(QA.samples(file))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"answers": []}, r"record 2 of .* has the answers \[\], not a list of texts"),
        ({"context": None}, "record 2 of .* has the context None, not a text"),
        ({"_id": "one"}, "record 2 of .* has the _id of record 1 of"),
    ],
)
def test_odd_records_are_named(tmp_path, row, sentence):
    with pytest.raises(UserError, match=sentence):
        sound(QA.samples(written(tmp_path, "wiki_qa", {"_id": "one"}, row)))


def test_words_are_those_of_the_dictionary():
    assert choubun.japanese_words("東京都に住んで\nいます。") == [
        "東京", "都", "に", "住ん", "で", "い", "ます", "。",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "answers", "right"),
    [
        ("東京都。", ["東京"], 2 * (1 / 2) * 1 / (1 / 2 + 1)),
        ("東京都。", ["大阪", "東京都"], 1),
        ("「東京」、都", ["東京都"], 1),
        ("ＡＢＣ abc", ["ABC"], 2 / 3),
        ("。", ["。"], 0),
        ("", ["東京"], 0),
    ],
)
def test_questions_by_hand(reply, answers, right):
    assert score(QA, reply, *answers) == pytest.approx(right)


def test_summaries_by_hand():
    # 東京 都 に 住む against 東京 都 に 住ん で いる: three of four and of six.
    right = 2 * (3 / 4) * (3 / 6) / (3 / 4 + 3 / 6)
    assert score(SUM, "東京都に住む", "東京都に住んでいる") == pytest.approx(right)
    assert score(SUM, "東京都に住む", "大阪", "東京都に住む") == pytest.approx(1)
    assert score(SUM, "", "東京") == 0


@pytest.mark.parametrize("package", ["fugashi", "unidic_lite"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    choubun._cutter.cache_clear()
    with pytest.raises(UserError, match=rf"{package} .*pip install 'namm-transfer\[benchmarks\]'"):
        score(QA, "東京", "東京")

"""Text read, questions asked and replies scored, with a tiny random Llama that reads text."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import tiny
import torch
from evaluated import changed, failures_of, printed, rows_of, timeless
from tasks.words import word_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from transfer import attach
from transfer.adapters.language_model import load_language_model
from transfer.adapters.prompts import Prompt, encode_prompt
from transfer.errors import UserError
from transfer.evaluation import text_benchmark
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.runner import evaluate
from transfer.evaluation.summary import FAMILY, NORMALISED
from transfer.evaluation.text_benchmark import Reader, TextBenchmark
from transfer.plugins import register
from transfer.tasks.reading import ReadTask, Sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("text") / "model"
    tokenizer = word_tokenizer()
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def config(folder):
    return changed(
        LanguageEval(model=str(folder), task=("recall",), length=(300,), documents=2),
        policy=("h2o",),
        budget=(0.25,),
        update_interval=32,
        threads=1,
    )


# The second text has the questions of the first, and another task those of both.
TEXTS = ("The lamp is red. The box is blue. " * 8, "The lamp is blue. The box is red. " * 20)


_TOLD = [{"context": f"Town {n} lies at a river.", "qas": []} for n in range(3)]
_TOLD[0]["qas"] = [{"question": "Where?", "is_impossible": False, "answers": [{"text": "a river"}]}]
DATA = {
    "essay.txt": "An essay of mine. It has sentences.",
    "dev-v2.0.json": json.dumps({"data": [{"paragraphs": _TOLD}]}),
    "hotpotqa.json": json.dumps(
        [
            {
                "question": "Where?",
                "answer": "a",
                "context": [[f"Title {n}", [f"At {at}."]] for at in "ab"],
            }
            for n in range(2)
        ]
    ),
}


class Lamps(ReadTask):
    """Two texts with two questions each; a score that depends on the reply."""

    new_tokens = 5
    chance = 0.5
    family = "things"

    def __init__(self, name="things/lamps", scale=1.0):
        self.name, self.scale = name, scale

    def samples(self, data, most=None):
        for number, text in enumerate(TEXTS):
            for what in ("lamp", "box"):
                question = f"\nThe colour of the {what} is"
                yield Sample(f"{number}-{what}", text, question, (" red",), "", {"what": what})

    def score(self, reply, sample):
        return self.scale * (len(reply) % 7) / 6


class Things(TextBenchmark):
    def tasks_of(self, name):
        return [Lamps(), Lamps("things/boxes", 0.5)]


@pytest.fixture(scope="module", autouse=True)
def _registered():
    register("benchmark", "things", Things)


def test_replies_of_the_full_cache_are_the_model_s_own(config, folder):
    results = evaluate(changed(config, task=("things",), question=("hidden", "seen")))
    loaded = load_language_model(str(folder))
    for row in rows_of(results, "full", task="things/lamps"):
        [sample] = [one for one in Lamps().samples(None) if one.item == row["item"]]
        ids = encode_prompt(loaded.tokenizer, sample, "completion").ids
        said = loaded.model.generate(torch.tensor([ids]), max_new_tokens=5, do_sample=False)
        text = loaded.tokenizer.decode(said[0, len(ids) :], skip_special_tokens=True)
        assert row["reply"] == text and row["score"] == Lamps().score(text, sample)
        assert row["prompt_tokens"] == len(ids)
        assert row["question_text"] == sample.question.strip() and row["right"] == [" red"]
        assert row["tokens"] == len(ids) + row["reply_tokens"] - 1 and row["unended"] == 1
    cells = {(r["policy"], r["question"]) for r in results.rows}
    assert cells == {(p, q) for p in ("full", "h2o") for q in ("hidden", "seen")}
    assert len(results.rows) == 2 * 2 * 2 * 4
    hidden, seen = (
        [r["answer_log_likelihood"] for r in rows_of(results, "h2o", question=q)]
        for q in ("hidden", "seen")
    )
    assert hidden != seen
    # Texts are clusters, and groups have entries of their own.
    assert {row["cluster"] for row in results.rows} == {"0-lamp", "1-lamp"}
    assert {e["group"] for e in results.summary if e["group_by"] == "what"} == {"lamp", "box"}


@pytest.mark.parametrize(("equal", "field"), [("held", "held_mean"), ("peak", "held_peak")])
@pytest.mark.parametrize("question", ["hidden", "seen"])
def test_equal_tokens_are_of_the_updates_that_come(config, equal, field, question):
    policies = ("namm", "h2o:update_interval=96")
    results = evaluate(
        changed(
            config, task=("things",), question=(question,), policy=policies, budget=(0.3,),
            equal=equal,
        )
    )  # fmt: skip
    ours, theirs = (fmean(r[field] for r in rows_of(results, policy)) for policy in policies)
    # Replies are five tokens, and planned as the one of the right answer.
    assert theirs == pytest.approx(ours, abs=2)


@pytest.mark.parametrize("hidden", [True, False])
def test_an_update_falls_on_the_last_token_before_the_question_or_the_reply(folder, hidden):
    model = load_language_model(str(folder)).model
    prompt = Prompt(tuple(range(10, 83)), 50)
    with attach(model, "h2o", update_interval=16, budget=0.25) as memory:
        _, cache = Reader(model, memory).read(prompt, hidden)
    # Hidden, another comes 16 tokens later.
    at = 50 + 16 if hidden else 73
    [updated] = {n for layer in cache.pruned for n in layer.last_updates()}
    assert updated == at


def test_a_text_that_is_read_once_for_all_its_questions_changes_none(config, monkeypatch):
    config = changed(config, task=("things",))
    together = evaluate(config)
    monkeypatch.setattr(
        text_benchmark, "groupby", lambda items, key: ((key(i), [i]) for i in items)
    )
    alone = evaluate(config)
    for one in (*together.rows, *alone.rows):
        del one["cluster"], one["block"]
    key = lambda row: (row["policy"], row["task"], row["item"])  # noqa: E731
    assert sorted(timeless(together.rows), key=key) == sorted(timeless(alone.rows), key=key)


def test_means_over_tasks_and_shares_of_the_full_cache(config):
    results = evaluate(changed(config, task=("things",)))
    family = [e for e in results.summary if e["group_by"] == FAMILY]
    assert [(e["task"], e["policy"], e["metric"]) for e in family] == [
        ("things", policy, metric)
        for policy in ("full", "h2o")
        for metric in ("score", NORMALISED, "answer_log_likelihood")
    ]
    means = {
        (policy, scale): sum(r["score"] for r in rows_of(results, policy, task=task)) / 4
        for policy in ("full", "h2o")
        for task, scale in (("things/lamps", 1), ("things/boxes", 2))
    }
    score, share = (
        next(e for e in family if (e["policy"], e["metric"]) == ("h2o", name))
        for name in ("score", NORMALISED)
    )
    assert score["mean"] == pytest.approx((means["h2o", 1] + means["h2o", 2]) / 2)
    assert score["delta_vs_full"] == pytest.approx(
        score["mean"] - (means["full", 1] + means["full", 2]) / 2
    )
    # The second task is the first at half the scale, so its share is the same.
    assert share["mean"] == pytest.approx(means["h2o", 1] / means["full", 1])
    assert share["n"] == 2 and share["low"] <= share["mean"] <= share["high"]
    full = next(e for e in family if (e["policy"], e["metric"]) == ("full", NORMALISED))
    assert (full["mean"], full["low"], full["high"]) == (1, 1, 1)
    table = printed(results)
    assert "model on all of things (hidden): means over tasks" in table
    assert max(map(len, table.splitlines())) <= 100


def test_a_task_that_the_full_cache_cannot_do_is_marked(config, monkeypatch):
    monkeypatch.setattr(Lamps, "chance", 0.99)
    text = " ".join(printed(evaluate(changed(config, task=("things",)))).split())
    assert "The full cache is not above chance (99.0%) on things/lamps: no policy can be" in text
    monkeypatch.setattr(Lamps, "chance", -1.0)
    assert "above chance" not in printed(evaluate(changed(config, task=("things",))))


def test_a_second_task_about_the_same_texts_has_scores_of_its_own(config):
    results = evaluate(changed(config, task=("things",)))
    for policy in ("full", "h2o"):
        first, second = (
            [r["score"] for r in rows_of(results, policy, task=f"things/{name}")]
            for name in ("lamps", "boxes")
        )
        assert sum(first) > 0 and second == pytest.approx([score / 2 for score in first])


class Grouped(Lamps):
    def samples(self, data, most=None):
        for number, one in enumerate(super().samples(data, most)):
            yield replace(one, groups={"length": ("short", "long")[number % 2]})


def test_groups_called_as_a_key_leave_the_whole_task_its_entry(config, monkeypatch):
    monkeypatch.setattr(Things, "tasks_of", lambda self, name: [Grouped()])
    results = evaluate(changed(config, task=("things",)))
    whole = [e for e in results.summary if e["group_by"] == "all" and e["metric"] == "score"]
    assert [(e["policy"], e["n"], e["length"]) for e in whole] == [
        ("full", 4, None), ("h2o", 4, None)
    ]  # fmt: skip
    groups = {e["group"] for e in results.summary if e["group_by"] == "record_length"}
    assert groups == {"short", "long"}
    assert "score by record length" in printed(results)


class Cut(Lamps):
    new_tokens = 4

    def samples(self, data, most=None):
        text = "The lamp is red. The box is blue. " * 30
        for number in range(3):
            question = f"\nThe colour of the {'big ' * number}lamp is"
            yield Sample(number, text, question, ("red " * 300,), " surely")


def test_questions_about_one_text_stay_together_when_it_is_cut(config, monkeypatch):
    monkeypatch.setattr(Things, "tasks_of", lambda self, name: [Cut()])
    monkeypatch.setattr(text_benchmark, "positions_of", lambda model: 200)
    results = evaluate(changed(config, task=("things",)))
    # Neither a long right answer nor the beginning of the reply takes the reply's room.
    assert not failures_of(results)
    for row in results.rows:
        assert row["cluster"] == 0
        assert row["answer_log_likelihood"] is None and row["cut"] == 1
        assert 185 < row["prompt_tokens"] <= 196 and row["reply_tokens"] == 4


def test_our_own_tasks_are_read_as_text(config):
    results = evaluate(changed(config, task=("recall", "passkey"), policy=("recency",)))
    rows = rows_of(results, "full")
    assert {row["task"] for row in rows} == {"recall", "passkey"}
    assert all(row["tokens"] <= 300 for row in rows)
    assert [r["item"] for r in rows if r["task"] == "passkey"] == ["0.0", "1.0"]
    deep = evaluate(changed(config, task=("passkey",), depth=(1.0, 0.0, 0.5), policy=("recency",)))
    assert [r["item"] for r in rows_of(deep, "full")][:3] == ["0@1.0", "0@0.0", "0@0.5.0"]
    groups = [e["group"] for e in deep.summary if e["group_by"] == "depth"]
    assert list(dict.fromkeys(groups)) == ["0", "0.5", "1"]


@pytest.fixture
def coarse(folder, tmp_path):
    """A model with a token each word, and one before each text."""
    path = tmp_path / "coarse"
    shutil.copytree(folder, path)
    words = Tokenizer(models.WordLevel({"<s>": 0, "?": 1, ".": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    words.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(path)
    return path


def test_the_length_decides_and_not_what_the_tokenizer_leaves_of_it(config, coarse):
    told = changed(config, model=str(coarse), task=("ruler/cwe",), length=(4096,), documents=1)
    [block] = TextBenchmark(told).blocks()
    [(asked,), _] = block.content
    *_, words = re.findall(r"^1\. .*$", asked.sample.context, re.MULTILINE)
    assert set(Counter(re.findall(r"\d+\. (\S+)", words)).values()) == {30, 3}


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ((), ["ruler/qa_1", "ruler/qa_2"]),
        (("essay.txt",), ["ruler/qa_1", "ruler/qa_2"]),
        (("dev-v2.0.json",), ["ruler/qa_2"]),
        (("hotpotqa.json", "essay.txt"), ["ruler/qa_1"]),
    ],
)
def test_what_a_family_lacks_data_for_is_left_out(config, coarse, tmp_path, files, left, capsys):
    told = changed(config, model=str(coarse), task=("ruler",), length=(2000,), documents=1)
    data = tmp_path / "data"
    data.mkdir()
    for file in files:
        (data / file).write_text(DATA[file])
    benchmark = TextBenchmark(changed(told, data=data if files else None))
    assert len(
        {one.task.name for block in benchmark.blocks() for one in block.content[0]}
    ) == 13 - len(left)
    assert not benchmark.tasks.keys() & {*left}
    why = f"for want of their files in --data {data}" if files else "without --data"
    assert f"left out {why}: {', '.join(left)}\n" in capsys.readouterr().err


def test_questions_of_ones_own(config, tmp_path):
    file = tmp_path / "mine.jsonl"
    records = [{"prompt": f"{text}\nThe lamp is", "answer": "red."} for text in TEXTS]
    file.write_text("".join(json.dumps(one) + "\n" for one in records))
    results = evaluate(changed(config, task=(str(file),), documents=None))
    full = rows_of(results, "full")
    assert [row["item"] for row in full] == [0, 1]
    assert full[0]["tokens"] < full[1]["tokens"]
    assert "mine.jsonl, question hidden: 2 prompts" in " ".join(printed(results).split())
    once = evaluate(changed(config, task=(str(file),), documents=1))
    assert [row["item"] for row in rows_of(once, "full")] == [0]


@pytest.mark.parametrize("question", ["hidden", "seen"])
def test_prompts_of_which_nothing_is_hidden_are_said(config, tmp_path, capsys, question):
    file = tmp_path / "mine.jsonl"
    prompts = (f"{TEXTS[0]}\nThe lamp is", "The lamp is red. The lamp is")
    lines = [json.dumps({"prompt": prompt, "answer": "red"}) + "\n" for prompt in prompts]
    file.write_text("".join(lines))
    TextBenchmark(changed(config, task=(str(file),), documents=None, question=(question,)))
    said = (
        f"of 1 of 2 prompts ({file}) nothing comes before the question" in capsys.readouterr().err
    )
    assert said is (question == "hidden")


def test_a_prompt_that_has_no_room_is_a_failed_row_that_names_the_record(config, monkeypatch):
    monkeypatch.setattr(TextBenchmark, "_cut", lambda self, task, sample: sample)
    monkeypatch.setattr(text_benchmark, "positions_of", lambda model: 260)
    results = evaluate(changed(config, task=("things",)))
    failed = failures_of(results)
    assert sorted(failed) == ["1-box", "1-lamp"]
    assert re.fullmatch(
        r"record 1-box of things/\w+ has \d+ tokens, which leaves no room for a reply in 260; use a"
        r" smaller --max-length, or a model with more positions",
        failed["1-box"],
    )
    whole = [e for e in results.summary if e["task"] == "things/lamps" and e["group_by"] == "all"]
    assert {(e["n"], e["failed"]) for e in whole} == {(2, 2)}


@pytest.mark.parametrize("most", [40, None])
def test_long_prompts_lose_their_middle(config, monkeypatch, most):
    monkeypatch.setattr(text_benchmark, "positions_of", lambda model: 90)
    results = evaluate(changed(config, task=("things",), max_length=most))
    assert not failures_of(results)
    lengths = {row["prompt_tokens"] for row in results.rows}
    assert max(lengths) <= (most or 85) + 3 and min(lengths) > (most or 85) - 6


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task": ("recal",)}, "unknown task 'recal'; did you mean recall"),
        ({"task": ("longbnch/qasper",)}, "did you mean longbench"),
        ({"task": ("longbench/qaspr",)}, "did you mean longbench/qasper"),
        ({"task": ("recal.json",)}, r"your own questions ends in \.jsonl and has lines of"),
        ({"task": ("recall.json",)}, r"^recall\.json is a file and no task; a file of your own"),
        ({"task": ("nothing.jsonl",)}, r"cannot read nothing\.jsonl"),
        ({"length": (5000,)}, "longer than the 4096 positions"),
        ({"length": (60,)}, "cannot hold the facts and questions of recall"),
        ({"length": (1,)}, "cannot hold the facts and questions of recall"),
        ({"prompt": "chat"}, "has no chat template"),
        ({"max_length": 1}, "--max-length is 1; use 2 or more"),
        (
            {"task": ("recall",), "data": Path("texts")},
            r"--data is of no use for task recall, which reads none \(--task perplexity would\)",
        ),
    ],
)
def test_bad_input_is_one_sentence(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(changed(config, **changes))


def test_a_broken_record_is_counted_and_the_others_are_asked(config, tmp_path):
    good = {"input": "Who?", "context": "Ann did it.", "answers": ["Ann"], "_id": "1"}
    lines = [good, {**good, "_id": "2", "answers": None}, {**good, "_id": "3"}]
    (tmp_path / "qasper.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    config = changed(config, task=("longbench/qasper",), data=tmp_path, documents=None)
    results = evaluate(config)
    [(item, reason)] = failures_of(results).items()
    assert item.startswith("line 2 of ") and "has the answers None, not a list of texts" in reason
    assert [row["item"] for row in rows_of(results, "full")] == ["1", item, "3"]
    (tmp_path / "qasper.jsonl").write_text(json.dumps(lines[1]) + "\n")
    with pytest.raises(UserError, match=r"line 1 of .*qasper\.jsonl has the answers None"):
        evaluate(config)


def test_the_example_of_a_task_of_one_s_own(config, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2] / "examples")
    results = evaluate(changed(config, task=("add_reading_task:Opening",), documents=None))
    assert [row["item"] for row in rows_of(results, "full")] == ["library", "museum", "bakery"]
    assert not failures_of(results)

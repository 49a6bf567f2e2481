"""Video runs with a tiny random LLaVA and videos written here."""

import json
from dataclasses import replace

import pytest
import tiny_video
import torch
from evaluated import changed, failures_of, rows_of, timeless
from transformers import DynamicCache

from transfer import NAMM, NAMMConfig
from transfer.adapters.video_model import VideoModel, load_video_model
from transfer.errors import UserError
from transfer.evaluation import video_benchmark
from transfer.evaluation.runner import evaluate
from transfer.evaluation.store import read_results
from transfer.evaluation.video import VideoEval
from transfer.evaluation.video_benchmark import VideoBenchmark
from transfer.plugins import POLICIES
from transfer.tasks.video import VIDEO_TASKS
from transfer.video.frames import read_clip

OPTIONS = ["red", "green", "blue"]


@pytest.fixture(autouse=True)
def _short_replies(monkeypatch):
    monkeypatch.setitem(VIDEO_TASKS, "jsonl", replace(VIDEO_TASKS["jsonl"], tokens=2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("video")
    tiny_video.save_llava(path / "model")
    NAMM(NAMMConfig()).save_pretrained(path / "namm")
    for number in range(3):
        tiny_video.write_video(path / f"{number}.mp4", 10 + number)
    (path / "broken.mp4").write_bytes(b"no video")
    return path


def write_questions(path, videos, **more):
    lines = [
        {
            "id": f"q{number}",
            "video": video,
            "question": "what color is the square ?",
            "options": OPTIONS,
            "answer": number % 3,
            "category": ("color", "shape")[number % 2],
            **more,
        }
        for number, video in enumerate(videos)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def config(folder):
    # Not in the order of their videos.
    videos = ("0.mp4", "1.mp4", "0.mp4", "2.mp4", "1.mp4")
    config = VideoEval(
        model=str(folder / "model"),
        task="jsonl",
        data=write_questions(folder / "questions.jsonl", videos),
        frames=8,
    )
    return changed(
        config,
        policy=("recency",),
        namm=(str(folder / "namm"),),
        budget=(0.25, 40),
        threads=1,
    )


def test_every_policy_answers_every_question_at_every_budget(config, tmp_path):
    config = changed(config, policy=("h2o", "recency"), out=tmp_path)
    results = evaluate(config)
    cells = {(row["policy"], row["budget"]) for row in results.rows}
    assert cells == {("full", None), *((p, b) for p in ("h2o", "recency") for b in (0.25, 40))}
    for cell in cells:
        rows = [row for row in results.rows if (row["policy"], row["budget"]) == cell]
        assert sorted(row["item"] for row in rows) == ["q0", "q1", "q2", "q3", "q4"]
    read = read_results(tmp_path)
    assert (read.as_json(), read.rows) == (results.as_json(), results.rows)
    assert {entry["group"] for entry in results.summary} == {"", "color", "shape"}
    assert len(results.summary) == 5 * 2 * 3


def test_the_full_cache_is_the_stock_model_to_the_last_bit(config, folder):
    full = rows_of(evaluate(config), "full")
    video = load_video_model(folder / "model")
    records = {record.id: record for record in VIDEO_TASKS["jsonl"].read(config.data)}
    letters = [video.tokenizer.convert_tokens_to_ids(letter) for letter in "ABC"]
    for row in full:
        question = records[row["item"]]
        clip = read_clip(question.video, 8)
        ids = video.prompt_ids(VIDEO_TASKS["jsonl"].prompt(question, clip.seconds), 8)
        inputs = {
            "pixel_values_videos": video.preprocessing(clip.pixels),
            "cache": DynamicCache(config=video.adapter.config),
        }
        with torch.no_grad():
            logits = video.model(ids, **inputs, logits_to_keep=1).logits[0, 0]
        assert row["log_likelihoods"] == logits.log_softmax(-1)[letters].tolist()
        inputs["cache"] = DynamicCache(config=video.adapter.config)
        written = video.model.generate(ids, **inputs, do_sample=False, max_new_tokens=2)
        reply = video.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
        assert row["reply"] == reply.strip()
        assert row["tokens"] == ids.shape[1] == row["kept_tokens"]
        assert (
            row["cache_bytes"]
            == row["peak_bytes"]
            == row["full_bytes"]
            == ids.shape[1] * 3 * 2 * 2 * 8 * 4
        )


def test_scores_follow_from_likelihoods_and_replies(config):
    records = {record.id: record for record in VIDEO_TASKS["jsonl"].read(config.data)}
    rows = evaluate(config).rows
    assert {row["likely"] for row in rows} != {0}
    for row in rows:
        likelihoods = row["log_likelihoods"]
        assert likelihoods[row["likely"]] == max(likelihoods)
        assert row["correct_likelihood"] == float(row["likely"] == row["answer"])
        record = records[row["item"]]
        assert row["question_text"] == record.question
        assert row["right"] == [record.options[row["answer"]]]
        said = VIDEO_TASKS["jsonl"].parse(row["reply"], record)
        assert (row["said"], row["correct_reply"]) == (said, float(said == row["answer"]))


def test_tokens_and_bytes_of_video_and_text_are_told_apart(config):
    for row in rows_of(evaluate(config), "recency"):
        assert row["video_tokens"] == 8 * 16
        # The last eviction is after 128 tokens, then the rest of the prompt comes.
        kept = 40 if row["budget"] == 40 else 32
        rest = row["tokens"] - 128
        assert row["kept_tokens"] == kept + rest
        # "<s> USER:" and two frames' tokens are the sinks; the newest are the video's.
        assert row["kept_text_tokens"] == row["tokens"] - 128
        assert row["kept_video_tokens"] == kept
        # Two heads in three layers; keys and values of 8 numbers, a position.
        assert row["video_bytes"] == kept * 6 * (2 * 8 * 4 + 4)
        assert row["text_bytes"] == rest * 6 * (2 * 8 * 4 + 4)
        assert row["video_bytes"] + row["text_bytes"] <= row["cache_bytes"] <= row["peak_bytes"]
        assert row["policy_seconds"] > 0


def test_a_video_is_decoded_and_encoded_once_for_all_questions_and_policies(config, monkeypatch):
    calls = {"read": [], "encode": 0}

    def read(video, *args, **kwargs):
        calls["read"].append(video.name)
        return read_clip(video, *args, **kwargs)

    def encode(self, clip):
        calls["encode"] += 1
        return original(self, clip)

    original = VideoModel.encode
    monkeypatch.setattr(video_benchmark, "read_clip", read)
    monkeypatch.setattr(VideoModel, "encode", encode)
    results = evaluate(config)
    assert calls == {"read": ["0.mp4", "1.mp4", "2.mp4"], "encode": 3}
    waited = {row["item"] for row in results.rows if row["decode_seconds"] > 0}
    assert waited == {"q0", "q1", "q3"}


def test_a_prompt_in_pieces_gives_the_same_answers(config):
    whole, pieces = evaluate(config).rows, evaluate(changed(config, chunk=50)).rows
    for one, other in zip(timeless(whole), timeless(pieces)):
        assert one["log_likelihoods"] == pytest.approx(other["log_likelihoods"], abs=1e-3)
        assert one["kept_video_tokens"] == other["kept_video_tokens"]


@pytest.fixture
def asked(monkeypatch):
    """Which questions were asked, once for each contender; Ctrl-C comes after `asked.most`."""

    class Asked(list):
        most = None

    calls, task = Asked(), type(VIDEO_TASKS["jsonl"])
    original = task.prompt

    def prompt(self, question, seconds):
        if len(calls) == calls.most:
            raise KeyboardInterrupt
        calls.append(question.id)
        return original(self, question, seconds)

    monkeypatch.setattr(task, "prompt", prompt)
    return calls


def test_a_run_goes_on_where_it_was_interrupted(config, tmp_path, asked):
    whole = evaluate(config)
    config = changed(config, out=tmp_path)
    asked.clear()
    asked.most = 10
    first = evaluate(config)
    # Three contenders answer both questions of the first video and of the second all but two.
    assert first.interrupted and len(first.rows) == 10
    assert {(e["policy"], e["budget"]): e["n"] for e in first.summary if not e["group"]} == {
        ("full", None): 4, ("recency", 0.25): 4, ("recency", 40): 2,
    }  # fmt: skip
    with (tmp_path / "rows.jsonl").open("a") as file:
        # Killed while it wrote: one row of a block, then part of another.
        file.write(json.dumps(whole.rows[-2]) + "\n" + json.dumps(whole.rows[-1])[:40])
    (tmp_path / "results.json").unlink()
    asked.clear()
    asked.most = None
    second = evaluate(config)
    assert not second.interrupted and asked == ["q1", "q4", "q3", "q3", "q3"]
    assert timeless(second.rows) == timeless(whole.rows)
    assert timeless(second.summary) == timeless(whole.summary)
    assert read_results(tmp_path).rows == second.rows
    asked.clear()
    assert evaluate(config).rows == second.rows
    assert asked == []


def test_failed_questions_are_asked_again(config, folder, tmp_path):
    data = write_questions(tmp_path / "questions.jsonl", [str(folder / "0.mp4"), "late.mp4"])
    config = changed(config, data=data, out=tmp_path / "out")
    results = evaluate(config)
    assert len(results.rows) == 2 * 3
    assert {item: reason[:5] for item, reason in failures_of(results).items()} == {"q1": "video"}
    tiny_video.write_video(tmp_path / "late.mp4", 9)
    results = evaluate(config)
    assert len(results.rows) == 2 * 3 and failures_of(results) == {}


def recolour(path):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[0]["question"] = "what is the square ?"
    path.write_text("".join(json.dumps(record) + "\n" for record in records[:-1]))


def test_rows_of_records_that_changed_or_are_gone_are_dropped_and_asked_again(
    config, folder, tmp_path, asked
):
    for number in range(3):
        tiny_video.write_video(tmp_path / f"{number}.mp4", 10 + number)
    data = write_questions(tmp_path / "q.jsonl", ("0.mp4", "1.mp4", "0.mp4", "2.mp4", "1.mp4"))
    config = changed(config, data=data, out=tmp_path / "out")
    evaluate(config)
    # Another first question, no last one, and another video of the fourth.
    recolour(data)
    tiny_video.write_video(tmp_path / "2.mp4", 14)
    asked.clear()
    again = evaluate(config)
    # Questions about the same video are asked together.
    assert asked == ["q0", "q2"] * 3 + ["q1"] * 3 + ["q3"] * 3
    assert timeless(again.rows) == timeless(evaluate(changed(config, out=None)).rows)
    assert {row["item"] for row in again.rows} == {"q0", "q1", "q2", "q3"}
    assert read_results(tmp_path / "out").as_json() == again.as_json()


def test_a_run_of_another_model_or_namm_of_the_same_name_is_refused(config, tmp_path):
    model = tiny_video.save_llava(tmp_path / "model")
    NAMM(NAMMConfig()).save_pretrained(tmp_path / "namm")
    names = {"model": str(model), "namm": (str(tmp_path / "namm"),)}
    config = changed(config, **names, policy=("namm",), budget=(40,), out=tmp_path / "out")
    before = evaluate(config)
    (model / "notes.txt").write_text("Beside the model.")
    assert evaluate(config).rows == before.rows
    ones = NAMM(NAMMConfig(), torch.ones(NAMMConfig().size))
    ones.save_pretrained(tmp_path / "namm")
    with pytest.raises(UserError, match=r"holds a run with namms .*another --out"):
        evaluate(config)
    NAMM(NAMMConfig()).save_pretrained(tmp_path / "namm")
    tiny_video.llava({"initializer_range": 0.1}).save_pretrained(model)
    with pytest.raises(UserError, match="holds a run with model files"):
        evaluate(config)
    assert read_results(tmp_path / "out").rows == before.rows


def test_what_one_record_raises_fails_that_record(config, folder, tmp_path, monkeypatch):
    names = [str(folder / name) for name in ("0.mp4", "1.mp4", "x" * 300, "2.mp4")]
    data = write_questions(tmp_path / "q.jsonl", names)
    lost = {**json.loads(data.read_text().splitlines()[0]), "id": "odd", "question": "\ud800 ?"}
    data.write_text(data.read_text() + json.dumps(lost) + "\n")
    unknown = {**lost, "id": "unknown", "question": "what ?", "options": list("abcde")}
    data.write_text(data.read_text() + json.dumps(unknown) + "\n")

    def prompt(self, question, seconds):
        if question.id == "q1":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return ask(self, question, seconds)

    def encode(self, clip):
        if len(clip.seconds) and clip.duration > 0.45:
            raise MemoryError
        return original(self, clip)

    task, original = type(VIDEO_TASKS["jsonl"]), VideoModel.encode
    ask = task.prompt
    monkeypatch.setattr(task, "prompt", prompt)
    monkeypatch.setattr(VideoModel, "encode", encode)
    results = evaluate(changed(config, data=data))
    failed = failures_of(results)
    assert failed["q1"].startswith("too little memory (CUDA out of memory); use shorter inputs")
    assert "File name too long" in failed["q2"] and failed["q2"].startswith("video")
    assert failed["q3"].startswith("too little memory (MemoryError)")
    assert failed["q-4"] == "record q-4 is no JSON object; mend or delete it"
    # The tiny tokenizer has letters up to D.
    assert failed["unknown"].startswith("the model cannot tell the answers 'E'")
    assert {row["item"] for row in results.rows if row["failure"] is None} == {"q0"}
    assert len(results.rows) == 6 * 3


def test_the_rate_of_a_folder_of_pictures_is_part_of_the_clip(config, tmp_path, monkeypatch):
    lines = write_questions(tmp_path / "q.jsonl", ["pictures"] * 3).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    records[2]["folder_fps"] = 2
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    rates = []

    def read(video, *args, folder_fps, **kwargs):
        rates.append(folder_fps)
        raise UserError("not there")

    monkeypatch.setattr(video_benchmark, "read_clip", read)
    evaluate(changed(config, data=tmp_path / "q.jsonl"))
    assert rates == [1.0, 2.0]


def test_a_short_video_is_seen_whole_and_that_is_said(config, folder, tmp_path, capsys):
    data = write_questions(tmp_path / "q.jsonl", [str(folder / "0.mp4")] * 2)
    whole, more = (evaluate(changed(config, data=data, frames=frames)) for frames in (10, 11))
    # The same questions about the same frames.
    assert [row["likely"] for row in more.rows] == [row["likely"] for row in whole.rows]
    assert {row["frames"] for row in more.rows} == {10}
    said = f"video {folder / '0.mp4'} has 10 frames, fewer than the 11 asked for; all are taken"
    assert capsys.readouterr().err.splitlines().count(said) == 1


def test_the_stream_is_the_one_asked_for(config, folder, tmp_path):
    data = write_questions(tmp_path / "q.jsonl", [str(folder / "0.mp4")])
    first, other = (evaluate(changed(config, data=data, stream=number)) for number in (0, 1))
    assert not failures_of(first)
    assert "has no video stream 1; it has 0 (128 x 64)" in failures_of(other)["q0"]
    with pytest.raises(UserError, match="stream is -1"):
        changed(config, stream=-1)


def test_what_cannot_be_asked_is_a_failed_row_and_the_run_goes_on(config, folder, tmp_path):
    videos = ["broken.mp4", "gone.mp4", "1.mp4"]
    data = write_questions(tmp_path / "q.jsonl", [str(folder / video) for video in videos])
    long, good = json.loads(data.read_text().splitlines()[0]), data.read_text()
    long.update(id="long", video=str(folder / "2.mp4"), question="before " * 400)
    few = {**long, "id": "few", "question": "what ?", "options": ["red"]}
    wrong = {**long, "id": "wrong", "question": "what ?", "answer": 3}
    data.write_text(good + "".join(json.dumps(each) + "\n" for each in (long, few, wrong)))
    results = evaluate(changed(config, data=data, frames=11))
    failed = failures_of(results)
    assert failed.keys() == {"q0", "q1", "long", "few", "wrong"}
    for name, sentence in {
        "q0": "broken.mp4 cannot be read",
        "q1": "gone.mp4 does not exist",
        "long": "5 frames fit",
        "few": "has 1 options",
        "wrong": "its answer is option 3",
    }.items():
        assert sentence in failed[name], failed[name]
    assert {row["item"] for row in results.rows if row["failure"] is None} == {"q2"}
    assert {(entry["n"], entry["failed"]) for entry in results.summary if not entry["group"]} == {
        (1, 5)
    }


def test_answers_that_nobody_gave_are_answered_but_not_scored(config, folder, tmp_path):
    data = write_questions(tmp_path / "q.jsonl", [str(folder / "0.mp4")], answer=None)
    results = evaluate(changed(config, data=data))
    assert {row["correct_likelihood"] for row in results.rows} == {None}
    assert all(row["likely"] in (0, 1, 2) for row in results.rows)
    assert {(entry["n"], entry["mean"]) for entry in results.summary} == {(0, None)}


def test_likelihoods_that_are_no_numbers_fail(config, monkeypatch):
    monkeypatch.setattr(
        VideoModel, "option_log_likelihoods", lambda *args: [0.0, float("nan"), 0.0]
    )
    results = evaluate(config)
    assert len(results.rows) == 5 * 3
    assert all("use another --dtype" in row["failure"] for row in results.rows)


def test_all_means_every_policy(config):
    contenders = VideoBenchmark(changed(config, policy=("all",), budget=(16,))).contenders()
    names = [one.name for one in contenders]
    assert names == ["full", *(name for name in POLICIES.built_in if name != "full")]


def test_rules_get_the_bytes_of_the_namm_for_the_first_prompt(config):
    config = changed(config, policy=("namm", "h2o"), budget=(40,), equal_bytes=True)
    rows = evaluate(config).rows
    peak = {row["policy"]: row["peak_bytes"] for row in rows if row["item"] == "q0"}
    kept = {row["policy"]: row["kept_tokens"] for row in rows if row["item"] == "q0"}
    assert 0.8 < peak["h2o"] / peak["namm"] <= 1 and kept["h2o"] > kept["namm"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frames": 0}, "frames is 0"),
        ({"questions": 0}, "questions is 0"),
        ({"policy": ()}, "no policy was named; name at least one"),
        ({"fps": 0.0, "sampling": "fps"}, "fps is 0"),
        ({"fps": 2.0}, "together or neither"),
        ({"sampling": "fps"}, "together or neither"),
        ({"task": "mlv"}, "unknown task 'mlv'; did you mean mlvu"),
        ({"task": "mine.jsonl"}, "own questions is read with --task jsonl --data FILE.jsonl"),
        ({"policy": ("h20",)}, "unknown policy 'h20'"),
        ({"namm": ("nobody",), "policy": ("namm",)}, "unknown NAMM 'nobody'"),
        ({"data": None}, "data"),
        ({"policy": ("namm",), "update_interval": 20}, "update interval 20 does not fit"),
    ],
)
def test_bad_settings_are_one_sentence(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(changed(config, **changes))


def test_a_model_without_its_processor_is_one_sentence(config, folder, tmp_path):
    model = tiny_video.save_llava(tmp_path / "model")
    (model / "video_preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"video_preprocessor_config\.json"):
        evaluate(changed(config, model=str(model)))

"""Video runs with a tiny random LLaVA and videos written here."""

import json
from dataclasses import replace

import pytest
import tiny_video
import torch
from transformers import DynamicCache

from transfer import NAMM, NAMMConfig
from transfer.adapters.video_model import VideoModel, load_video_model
from transfer.errors import UserError
from transfer.evaluation import video_run
from transfer.evaluation.results import read_results
from transfer.evaluation.video_qa import TASKS, VideoEval, evaluate_video
from transfer.evaluation.video_run import Run
from transfer.tasks.video import VIDEO_TASKS as BENCHMARKS
from transfer.video.frames import read_clip

OPTIONS = ["red", "green", "blue"]
ASK = Run._ask


@pytest.fixture(autouse=True)
def _short_replies(monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "jsonl", replace(BENCHMARKS["jsonl"], tokens=2))


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
    return VideoEval(
        model=str(folder / "model"),
        task="jsonl",
        data=write_questions(folder / "questions.jsonl", videos),
        policy=("recency",),
        namm=(str(folder / "namm"),),
        budget=(0.25, 40),
        frames=8,
        threads=1,
    )


def timeless(rows):
    rows = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]
    return sorted(rows, key=lambda row: (row["question"], row.get("policy"), row.get("budget")))


def test_every_policy_answers_every_question_at_every_budget(config, tmp_path):
    config = replace(config, policy=("h2o", "recency"), out=tmp_path)
    results = evaluate_video(config)
    cells = {(row["policy"], row["budget"]) for row in results.rows}
    assert cells == {("full", None), *((p, b) for p in config.policy for b in config.budget)}
    for cell in cells:
        rows = [row for row in results.rows if (row["policy"], row["budget"]) == cell]
        assert sorted(row["question"] for row in rows) == ["q0", "q1", "q2", "q3", "q4"]
    assert read_results(tmp_path) == results
    assert {entry["group"] for entry in results.summary} == {"", "color", "shape"}
    assert len(results.summary) == 5 * 2 * 3


def test_the_full_cache_is_the_stock_model_to_the_last_bit(config, folder):
    full = [row for row in evaluate_video(config).rows if row["policy"] == "full"]
    video = load_video_model(folder / "model")
    records = {record.id: record for record in BENCHMARKS["jsonl"].read(config.data)}
    letters = [video.tokenizer.convert_tokens_to_ids(letter) for letter in "ABC"]
    for row in full:
        question = records[row["question"]]
        clip = read_clip(question.video, 8)
        ids = video.prompt_ids(BENCHMARKS["jsonl"].prompt(question, clip.seconds), 8)
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
        assert row["cache_bytes"] == row["full_bytes"] == ids.shape[1] * 3 * 2 * 2 * 8 * 4


def test_scores_follow_from_likelihoods_and_replies(config):
    records = {record.id: record for record in BENCHMARKS["jsonl"].read(config.data)}
    rows = evaluate_video(config).rows
    assert {row["likely"] for row in rows} != {0}
    for row in rows:
        likelihoods = row["log_likelihoods"]
        assert likelihoods[row["likely"]] == max(likelihoods)
        assert row["correct_likelihood"] == float(row["likely"] == row["answer"])
        said = BENCHMARKS["jsonl"].parse(row["reply"], records[row["question"]])
        assert (row["said"], row["correct_reply"]) == (said, float(said == row["answer"]))


def test_tokens_and_bytes_of_video_and_text_are_told_apart(config):
    rows = evaluate_video(config).rows
    for row in (row for row in rows if row["policy"] == "recency"):
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
    monkeypatch.setattr(video_run, "read_clip", read)
    monkeypatch.setattr(VideoModel, "encode", encode)
    results = evaluate_video(config)
    assert calls == {"read": ["0.mp4", "1.mp4", "2.mp4"], "encode": 3}
    waited = {row["question"] for row in results.rows if row["decode_seconds"] > 0}
    assert waited == {"q0", "q1", "q3"}


def test_a_prompt_in_pieces_gives_the_same_answers(config):
    whole, pieces = evaluate_video(config).rows, evaluate_video(replace(config, chunk=50)).rows
    for one, other in zip(timeless(whole), timeless(pieces)):
        assert one["log_likelihoods"] == pytest.approx(other["log_likelihoods"], abs=1e-3)
        assert one["kept_video_tokens"] == other["kept_video_tokens"]


def interrupting(count, monkeypatch):
    """Let Ctrl-C come after so many questions; returns which were asked."""
    asked = []

    def ask(self, question, watched, seconds):
        if len(asked) == count:
            raise KeyboardInterrupt
        asked.append(question.id)
        return ASK(self, question, watched, seconds)

    monkeypatch.setattr(Run, "_ask", ask)
    return asked


def test_a_run_goes_on_where_it_was_interrupted(config, tmp_path, monkeypatch):
    whole = evaluate_video(config)
    config = replace(config, out=tmp_path)
    interrupting(3, monkeypatch)
    first = evaluate_video(config)
    assert first.interrupted and len(first.rows) == 3 * 3
    assert first.summary[0]["n"] == 3 and read_results(tmp_path) == first
    with (tmp_path / "rows.jsonl").open("a") as file:
        # Killed while it wrote: one row of a question, then part of another.
        file.write(json.dumps(whole.rows[-2]) + "\n" + json.dumps(whole.rows[-1])[:40])
    (tmp_path / "results.json").unlink()
    asked = interrupting(None, monkeypatch)
    second = evaluate_video(config)
    assert not second.interrupted and len(asked) == 2
    assert timeless(second.rows) == timeless(whole.rows)
    assert read_results(tmp_path) == second
    for one, other in zip(second.summary, whole.summary):
        names = [name for name in one if not name.endswith("seconds")]
        assert {n: one[n] for n in names} == {n: other[n] for n in names}
    asked.clear()
    assert timeless(evaluate_video(config).rows) == timeless(whole.rows)
    assert asked == []


def test_failed_questions_are_asked_again(config, folder, tmp_path):
    data = write_questions(tmp_path / "questions.jsonl", [str(folder / "0.mp4"), "late.mp4"])
    config = replace(config, data=data, out=tmp_path / "out")
    results = evaluate_video(config)
    assert [row["failed"][:15] for row in results.rows if "failed" in row] == ["record q1: vide"]
    tiny_video.write_video(tmp_path / "late.mp4", 9)
    results = evaluate_video(config)
    assert len(results.rows) == 2 * 3 and not any("failed" in row for row in results.rows)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"frames": 4}, "holds a run with frames 8, not 4"),
        ({"budget": (0.25,)}, r"holds a run with budget \[0.25, 40\], not \[0.25\]"),
    ],
)
def test_a_run_with_other_settings_is_neither_mixed_in_nor_replaced(
    config, tmp_path, change, sentence
):
    config = replace(config, out=tmp_path)
    before = evaluate_video(config)
    with pytest.raises(UserError, match=sentence):
        evaluate_video(replace(config, **change))
    assert read_results(tmp_path) == before
    # What changes no result may change.
    assert timeless(evaluate_video(replace(config, threads=None)).rows) == timeless(before.rows)


def recolour(path):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[0]["question"] = "what is the square ?"
    path.write_text("".join(json.dumps(record) + "\n" for record in records[:-1]))


def test_rows_of_records_that_changed_or_are_gone_are_dropped_and_asked_again(
    config, folder, tmp_path, monkeypatch
):
    for number in range(3):
        tiny_video.write_video(tmp_path / f"{number}.mp4", 10 + number)
    data = write_questions(tmp_path / "q.jsonl", ("0.mp4", "1.mp4", "0.mp4", "2.mp4", "1.mp4"))
    config = replace(config, data=data, out=tmp_path / "out")
    evaluate_video(config)
    # Another first question, no last one, and another video of the fourth.
    recolour(data)
    tiny_video.write_video(tmp_path / "2.mp4", 14)
    asked = interrupting(None, monkeypatch)
    again = evaluate_video(config)
    assert asked == ["q0", "q3"]
    assert timeless(again.rows) == timeless(evaluate_video(replace(config, out=None)).rows)
    assert {row["question"] for row in again.rows} == {"q0", "q1", "q2", "q3"}
    assert read_results(tmp_path / "out") == again


def test_a_run_of_another_model_or_namm_of_the_same_name_is_refused(config, tmp_path):
    model = tiny_video.save_llava(tmp_path / "model")
    NAMM(NAMMConfig()).save_pretrained(tmp_path / "namm")
    names = {"model": str(model), "namm": (str(tmp_path / "namm"),)}
    config = replace(config, **names, policy=("namm",), budget=(40,), out=tmp_path / "out")
    before = evaluate_video(config)
    (model / "notes.txt").write_text("Beside the model.")
    assert evaluate_video(config).rows == before.rows
    ones = NAMM(NAMMConfig(), torch.ones(NAMMConfig().size))
    ones.save_pretrained(tmp_path / "namm")
    with pytest.raises(UserError, match=r"holds a run with namm vectors .*another --out"):
        evaluate_video(config)
    NAMM(NAMMConfig()).save_pretrained(tmp_path / "namm")
    tiny_video.llava({"initializer_range": 0.1}).save_pretrained(model)
    with pytest.raises(UserError, match="holds a run with model files"):
        evaluate_video(config)
    assert read_results(tmp_path / "out").rows == before.rows


def test_what_one_record_raises_fails_that_record(config, folder, tmp_path, monkeypatch):
    names = [str(folder / name) for name in ("0.mp4", "1.mp4", "x" * 300, "2.mp4")]
    data = write_questions(tmp_path / "q.jsonl", names)
    lost = {**json.loads(data.read_text().splitlines()[0]), "id": "odd", "question": "\ud800 ?"}
    data.write_text(data.read_text() + json.dumps(lost) + "\n")
    unknown = {**lost, "id": "unknown", "question": "what ?", "options": list("abcde")}
    data.write_text(data.read_text() + json.dumps(unknown) + "\n")

    def ask(self, question, *args):
        if question.id == "q1":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return ASK(self, question, *args)

    def encode(self, clip):
        if len(clip.seconds) and clip.duration > 0.45:
            raise MemoryError
        return original(self, clip)

    original = VideoModel.encode
    monkeypatch.setattr(Run, "_ask", ask)
    monkeypatch.setattr(VideoModel, "encode", encode)
    rows = evaluate_video(replace(config, data=data)).rows
    failed = {row["question"]: row["failed"] for row in rows if "failed" in row}
    assert failed["q1"].startswith("record q1: too little memory (CUDA out of memory); use fewer")
    assert "File name too long" in failed["q2"] and failed["q2"].startswith("record q2: video")
    assert failed["q3"].startswith("record q3: too little memory (MemoryError)")
    assert "half a surrogate pair" in failed["odd"]
    # The tiny tokenizer has letters up to D.
    assert failed["unknown"].startswith("record unknown: the model cannot tell the answers 'E'")
    assert {row["question"] for row in rows if "failed" not in row} == {"q0"}


def test_the_rate_of_a_folder_of_pictures_is_part_of_the_clip(config, tmp_path, monkeypatch):
    lines = write_questions(tmp_path / "q.jsonl", ["pictures"] * 3).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    records[2]["folder_fps"] = 2
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    rates = []

    def read(video, *args, folder_fps, **kwargs):
        rates.append(folder_fps)
        raise UserError("not there")

    monkeypatch.setattr(video_run, "read_clip", read)
    evaluate_video(replace(config, data=tmp_path / "q.jsonl"))
    assert rates == [1.0, 2.0]


def test_a_folder_of_another_run_or_with_damaged_rows_is_refused(config, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"seed": 0}\n')
    with pytest.raises(UserError, match="a run of another kind; choose another --out"):
        evaluate_video(replace(config, out=tmp_path))
    (tmp_path / "rows.jsonl").unlink()
    evaluate_video(replace(config, out=tmp_path))
    # As a run of a language model leaves it.
    (tmp_path / "rows.jsonl").write_text('{"seed": 0}\n')
    with pytest.raises(UserError, match="a run of another kind"):
        evaluate_video(replace(config, out=tmp_path))
    (tmp_path / "rows.jsonl").unlink()
    evaluate_video(replace(config, out=tmp_path))
    rows = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text("{" + rows)
    with pytest.raises(UserError, match="is damaged"):
        evaluate_video(replace(config, out=tmp_path))
    assert (tmp_path / "rows.jsonl").read_text() == "{" + rows


def test_what_cannot_be_asked_is_a_failed_row_and_the_run_goes_on(config, folder, tmp_path):
    videos = ["broken.mp4", "gone.mp4", "0.mp4", "1.mp4"]
    data = write_questions(tmp_path / "q.jsonl", [str(folder / video) for video in videos])
    long, good = json.loads(data.read_text().splitlines()[0]), data.read_text()
    long.update(id="long", video=str(folder / "2.mp4"), question="before " * 400)
    few = {**long, "id": "few", "question": "what ?", "options": ["red"]}
    wrong = {**long, "id": "wrong", "question": "what ?", "answer": 3}
    data.write_text(good + "".join(json.dumps(each) + "\n" for each in (long, few, wrong)))
    results = evaluate_video(replace(config, data=data, frames=11))
    failed = {row["question"]: row["failed"] for row in results.rows if "failed" in row}
    assert {name: reason.count(name) > 0 for name, reason in failed.items()} == dict.fromkeys(
        ("q0", "q1", "q2", "long", "few", "wrong"), True
    )
    for name, sentence in {
        "q0": "broken.mp4 cannot be read",
        "q1": "gone.mp4 does not exist",
        "q2": "0.mp4 has 10 frames, fewer than the 11 asked for",
        "long": "5 frames fit",
        "few": "has 1 options",
        "wrong": "its answer is option 3",
    }.items():
        assert sentence in failed[name], failed[name]
    assert {row["question"] for row in results.rows if "failed" not in row} == {"q3"}
    assert {(entry["n"], entry["failed"]) for entry in results.summary if not entry["group"]} == {
        (1, 6)
    }


def test_the_progress_bar_moves_with_every_policy_and_ends_full(
    config, folder, monkeypatch, tmp_path
):
    class Bar:
        def __init__(self, **settings):
            self.at = []
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def add_task(self, name, total):
            self.total = total

        def update(self, task, completed=None, advance=0, description=""):
            self.at.append(self.at[-1] + advance if completed is None else completed)

    bars = []
    monkeypatch.setattr(video_run, "Progress", Bar)
    data = write_questions(tmp_path / "q.jsonl", [str(folder / "0.mp4"), "gone.mp4"])
    evaluate_video(replace(config, data=data))
    [bar] = bars
    assert (bar.at, bar.total) == ([0, 1, 2, 3, 3, 6], 6)


def test_answers_that_nobody_gave_are_answered_but_not_scored(config, folder, tmp_path):
    data = write_questions(tmp_path / "q.jsonl", [str(folder / "0.mp4")], answer=None)
    results = evaluate_video(replace(config, data=data))
    assert {row["correct_likelihood"] for row in results.rows} == {None}
    assert all(row["likely"] in (0, 1, 2) for row in results.rows)
    assert {(entry["n"], entry["mean"]) for entry in results.summary} == {(0, None)}


def test_likelihoods_that_are_no_numbers_fail(config, monkeypatch):
    monkeypatch.setattr(
        VideoModel, "option_log_likelihoods", lambda *args: [0.0, float("nan"), 0.0]
    )
    results = evaluate_video(config)
    assert len(results.rows) == 5
    assert all("use another --dtype" in row["failed"] for row in results.rows)


def test_the_names_of_tasks_are_those_of_the_benchmarks():
    assert sorted(TASKS) == sorted(BENCHMARKS)


def test_all_means_every_policy(config):
    names = [reader.name for reader in Run(replace(config, policy=("all",), budget=(16,))).readers]
    assert names[0] == "full" and "namm" in names and len(names) == 10


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frames": 0}, "frames is 0"),
        ({"questions": 0}, "questions is 0"),
        ({"policy": ()}, "no policy was named"),
        ({"budget": (8, 8)}, "budget 8 8: name each once"),
        ({"fps": 0.0, "sampling": "fps"}, "fps is 0"),
        ({"fps": 2.0}, "together or neither"),
        ({"sampling": "fps"}, "together or neither"),
        ({"task": "mlv"}, "unknown task 'mlv'; did you mean mlvu"),
        ({"policy": ("h20",)}, "unknown policy 'h20'"),
        ({"namm": ("nobody",), "policy": ("namm",)}, "unknown NAMM 'nobody'"),
        ({"data": None}, "data"),
        ({"policy": ("h2o",), "update_interval": 20}, "update interval 20 does not fit"),
    ],
)
def test_bad_settings_are_one_sentence(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate_video(replace(config, **changes))


def test_a_model_without_its_processor_is_one_sentence(config, folder, tmp_path):
    model = tiny_video.save_llava(tmp_path / "model")
    (model / "video_preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"video_preprocessor_config\.json"):
        evaluate_video(replace(config, model=str(model)))

"""Runs of published video benchmarks, of which a few records lie in their authors' layouts."""

import json
from copy import deepcopy

import numpy as np
import pytest
import tiny_video
import torch
from evaluated import changed, failures_of
from tasks.video.written import touch, write_json, write_zip

from transfer.adapters.video_model import load_video_model
from transfer.attachment.memory import Memory
from transfer.cache.policy import Pruning
from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation import video_benchmark
from transfer.evaluation.runner import evaluate
from transfer.evaluation.video import VideoEval
from transfer.policies import get_policy
from transfer.tasks.video_records import VIDEO, Prompt
from transfer.video.frames import read_clip

LONG = {
    "id": "v_0",
    "video_path": "v.mp4",
    "subtitle_path": "v.json",
    "question": "what color is the square ?",
    "candidates": ["red", "green", "blue"],
    "correct_choice": -1,
    "duration": 0.4,
    "duration_group": 15,
    "question_category": "S2E",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_video.save_llava(tmp_path_factory.mktemp("model"))


def config_of(model, task, data, **settings):
    config = VideoEval(model=str(model), task=task, data=data, frames=4)
    return changed(config, **{"policy": ("recency",), "budget": (0.5,), "threads": 1, **settings})


def test_withheld_answers_are_written_as_the_authors_take_them(model, tmp_path, capsys):
    tiny_video.write_video(touch(tmp_path / "videos/v.mp4"), 8)
    data = write_json(tmp_path / "lvb_test_wo_gt.json", [LONG, {**LONG, "id": "v_1"}])
    out = tmp_path / "out"
    words = [
        "eval", "--model", str(model), "--task", "longvideobench-no-subtitles", "--data", str(data),
        "--frames", "4", "--policy", "recency", "--budget", "0.5", "--out", str(out),
    ]  # fmt: skip
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "subtitles: 0 questions (2 with answers withheld), 1 videos" in printed
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    for policy, name in (("full", "submission-full"), ("recency", "submission-recency-0.5")):
        own = [row for row in rows if row["policy"] == policy]
        letter = {row["item"]: row["reply"] if row["said"] is None else "ABC"[row["said"]]
                  for row in own}  # fmt: skip
        assert json.loads((out / f"{name}.json").read_text()) == letter
        assert letter.keys() == {"v_0", "v_1"}


def test_known_answers_make_no_submission(model, tmp_path):
    tiny_video.write_video(touch(tmp_path / "videos/v.mp4"), 8)
    write_json(tmp_path / "lvb_val.json", [{**LONG, "correct_choice": 1}])
    # Of an earlier run into this folder.
    touch(tmp_path / "out/submission-full.json")
    evaluate(config_of(model, "longvideobench-no-subtitles", tmp_path, out=tmp_path / "out"))
    assert list((tmp_path / "out").glob("submission*")) == []


def test_what_nobody_can_answer_is_wrong_and_in_the_head(model, tmp_path, capsys):
    record = {
        "video": "v.mp4", "duration": 1, "question": "what color ?", "question_type": "ego",
        "candidates": ["red", "green", "blue", ""], "answer": "before",
    }  # fmt: skip
    tiny_video.write_video(touch(tmp_path / "video/3_ego/v.mp4"), 8)
    records = [record, {**record, "answer": ""}, {**record, "video": "gone.mp4"}]
    write_json(tmp_path / "json/3_ego.json", records)
    words = ["eval", "--model", str(model), "--task", "mlvu", "--data", str(tmp_path)]
    assert main([*words, "--frames", "4", "--policy", "recency", "--budget", "0.5"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "mlvu: 2 questions (1 failed, 1 unanswerable), 1 videos, 4 frames, chance 12.5%" in printed
    )
    assert (
        f"video {tmp_path}/video/3_ego/gone.mp4 does not exist; mlvu has json/1_plotQA.json to"
        in printed
    )


def test_a_video_that_nobody_unpacked(model, tmp_path):
    tiny_video.write_video(tmp_path / "v.mp4", 8)
    record = {
        "videoID": "v", "duration": "short", "question_id": "1-1", "task_type": "OCR",
        "question": "what color ?", "options": ["A. red", "B. green"], "answer": "B",
    }  # fmt: skip
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    for folder in (plain, packed):
        write_json(folder / "test.json", [record])
    (plain / "data").mkdir()
    video = (tmp_path / "v.mp4").rename(plain / "data/v.mp4")
    write_zip(packed / "videos_chunked_01.zip", {"data/v.mp4": video.read_bytes()})
    one, other = (evaluate(config_of(model, "video-mme", data)).rows for data in (plain, packed))
    assert [row["log_likelihoods"] for row in one] == [row["log_likelihoods"] for row in other]
    # Another zip is another video, for a run that is resumed.
    write_zip(packed / "videos_chunked_01.zip", {"data/v.mp4": video.read_bytes(), "more": b""})
    again = evaluate(config_of(model, "video-mme", packed)).rows
    assert again[0]["block"] != other[0]["block"]


def test_a_question_counts_in_every_ability_that_it_needs(model, tmp_path):
    tiny_video.write_video(touch(tmp_path / "videos/k.mp4"), 8)
    asked = {"question": "what ?\n(A) red\n(B) blue", "answer": "A"}
    abilities = (["reasoning", "event"], ["event"], ["summary", "event"])
    qa = [{**asked, "uid": str(n), "question_type": own} for n, own in enumerate(abilities)]
    lines = json.dumps({"key": "k", "type": "live", "qa": qa})
    (tmp_path / "video_info.meta.jsonl").write_text(lines)
    summary = evaluate(config_of(model, "lvbench", tmp_path)).summary
    counts = {
        entry["group"]: entry["n"]
        for entry in summary
        if entry["policy"] == "full" and entry["metric"] == "correct_reply"
    }
    assert counts == {"": 3, "reasoning": 1, "event": 3, "summary": 1}


def test_questions_in_a_stream_are_asked_at_their_times(model, tmp_path, monkeypatch):
    tiny_video.write_video(touch(tmp_path / "videos/sample_1_real.mp4"), 60)
    asked = {"task_type": "OCR", "question": "what ?", "options": list("ABCD"), "answer": "A"}
    stamps = ("00:00:01", "00:00:02")
    parts = [
        {"questions": [{**asked, "time_stamp": stamp}], "video_path": "./videos/sample_1_real.mp4"}
        for stamp in stamps
    ]
    write_json(tmp_path / "questions_real.json", parts)
    seen = []

    def read(*args, **kwargs):
        seen.append(read_clip(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(video_benchmark, "read_clip", read)
    rows = evaluate(config_of(model, "streamingbench", tmp_path, frames=32)).rows
    assert [row["frames"] for row in rows if row["policy"] == "full"] == [1, 2]
    assert [clip.seconds[-1] < second for clip, second in zip(seen, (1, 2))] == [True, True]
    assert seen[1].seconds[-1] > 1.9
    assert len({row["cluster"] for row in rows}) == 1


def test_files_are_no_unknown_tasks(model, tmp_path):
    for name in ("own.json", "own.jsonl", "val.csv", "test.parquet", "Own.JSON"):
        with pytest.raises(UserError, match=f"^{name} is a file and no task; a file of your own"):
            evaluate(config_of(model, name, tmp_path))
    with pytest.raises(
        UserError, match=r"there is no .*own.json, and so no .*relative to the file"
    ):
        evaluate(config_of(model, "jsonl", tmp_path / "own.json"))
    (tmp_path / "own.json").write_text('[{"video": "gone.mp4", "question": "?", "options": "ab"}]')
    results = evaluate(config_of(model, "jsonl", tmp_path / "own.json"))
    assert "has no list 'options'" in failures_of(results)["own-0"]


def test_alone_or_in_the_middle_of_the_stream_a_question_finds_the_same_cache(model):
    """A video goes on after a question; asked alone, it is read up to there."""
    video = load_video_model(str(model))
    frames = np.stack([tiny_video.picture(number) for number in range(8)])
    pruning = Pruning(get_policy("h2o"), 16, 24)

    def ids_of(count):
        return video.prompt_ids(Prompt((VIDEO, "\nwhat color ?"), ()), count)

    alone = {}
    with Memory(video.adapter, pruning) as memory, torch.no_grad():
        for count in (3, 5, 8):
            cache = memory.new_cache()
            alone[count] = video.prefill(ids_of(count), video.encode(frames[:count]), cache)
        stream, seen = memory.new_cache(), 0
        whole = video.adapter.embed(ids_of(8), video.encode(frames).tensor)
        for count, expected in alone.items():
            until = int(video.is_video(ids_of(count))[0].nonzero().max()) + 1
            video.model(inputs_embeds=whole[:, seen:until], cache=stream)
            seen = until
            asked = deepcopy(stream)
            rest = video.adapter.embed(ids_of(count)[:, until:], None)
            logits = video.model(inputs_embeds=rest, cache=asked).logits[:, -1]
            torch.testing.assert_close(logits.double(), expected.double(), atol=1e-5, rtol=0)
    assert max(len(each) for layer in stream.pruned for each in layer.positions()) < 24 + 16

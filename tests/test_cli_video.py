"""`transfer eval` and `transfer report` for video models, and which models those are."""

import json

import pytest
import tiny_video

from transfer import cli
from transfer.errors import UserError
from transfer.eval_kind import eval_kind
from transfer.evaluation import video_run
from transfer.evaluation.results import read_results
from transfer.evaluation.video_qa import TASKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("video")
    tiny_video.save_llava(path / "model")
    tiny_video.write_video(path / "clip.mp4", 6)
    line = {"video": "clip.mp4", "question": "what ?", "options": ["red", "green"], "answer": "B"}
    line["category"] = "color"
    (path / "questions.jsonl").write_text(json.dumps(line) + "\n")
    (path / "lost.jsonl").write_text(json.dumps({**line, "video": "gone.mp4"}) + "\n")
    return path


@pytest.fixture
def words(folder):
    return [
        "eval", "--model", str(folder / "model"), "--task", "jsonl", "--frames", "4",
        "--data", str(folder / "questions.jsonl"), "--policy", "tova", "--budget", "0.5", "20",
    ]  # fmt: skip


def test_eval_prints_tables_and_report_prints_them_again(words, tmp_path, capsys):
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    lines = [line.split()[:2] for line in printed.splitlines()]
    # Accuracy, costs, and accuracy by category.
    for reader in (["full", "-"], ["tova", "50%"], ["tova", "20"]):
        assert lines.count(reader) == 3
    title = "model on jsonl: 1 questions, 1 videos, 4 frames, chance 50.0%; % right [95%]"
    assert printed.startswith(title)
    assert cli.main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == printed


def test_json_is_all_that_reaches_standard_output(words, tmp_path, capfd):
    assert cli.main([*words, "--json", "--out", str(tmp_path)]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed == json.loads((tmp_path / "results.json").read_text())
    assert printed["command"].split()[:4] == ["transfer", *words[:3]]
    assert {entry["metric"] for entry in printed["summary"]} == {"likelihood", "reply"}


def test_the_same_command_twice_asks_once(words, tmp_path, monkeypatch):
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    monkeypatch.setattr(video_run, "read_clip", lambda *args, **kwargs: pytest.fail("read again"))
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    assert len(read_results(tmp_path).rows) == 3


def test_more_questions_than_there_are_is_said(words, capsys):
    assert cli.main([*words, "--questions", "7"]) == 0
    said = "jsonl has 1 questions, fewer than the 7 asked for; all are asked"
    assert capsys.readouterr().err.splitlines()[0] == said


def test_ctrl_c_says_that_the_run_can_go_on(words, tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(video_run, "read_clip", interrupted)
    assert cli.main([*words, "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"interrupted: 0 rows are kept in {tmp_path}; the same command goes on from there"
    )
    assert read_results(tmp_path).interrupted


def test_when_every_question_failed_the_exit_code_says_so(words, folder, capsys):
    words[words.index("--data") + 1] = str(folder / "lost.jsonl")
    assert cli.main(words) == 1
    out = capsys.readouterr().out
    assert "in no mean: 1 of 1 questions" in out and "gone.mp4 does not exist" in out


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["--model", "llava-next-video"], "video"),
        (["--model=llava-next-video", "--task", "jsonl"], "video"),
        (["--model", "someone/llava", "--task", "mlvu"], "video"),
        (["--task=video-recall", "--model=someone/llava"], "video"),
        (["--model", "llava-hf/LLaVA-NeXT-Video-7B-hf"], "video"),
        (["--model", "someone/llama", "--task", "recall"], "language"),
        (["--model", "someone/llama"], "language"),
        (["--model", "llama-recall"], "language"),
        (["--model", "decision-transformer"], "control"),
        (["--model", "decision-transformer-hopper-mixed"], "control"),
        (["--help"], "control"),
    ],
)
def test_the_model_or_a_hub_models_task_says_whose_options_eval_takes(words, kind):
    assert eval_kind(words) == kind


def test_a_folder_says_by_its_configuration_whether_it_reads_videos(folder, tmp_path):
    assert eval_kind(["--model", str(folder / "model")]) == "video"
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert eval_kind(["--model", str(tmp_path), "--task", "mlvu"]) == "language"


def test_folders_whose_configuration_is_damaged_or_missing(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json"):
        eval_kind(["--model", str(tmp_path)])
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config\.json is no JSON object"):
        eval_kind(["--model", str(tmp_path)])


@pytest.mark.parametrize("model", ["llava-next-vido", "./nowhere"])
def test_an_unknown_model_is_answered_with_the_known_ones(model):
    with pytest.raises(UserError, match="llava-next-video"):
        eval_kind(["--model", model])


def test_the_help_of_video_models_names_their_tasks(capsys):
    with pytest.raises(SystemExit):
        cli.main(["eval", "--model", "llava-next-video", "--help"])
    said = capsys.readouterr().out
    assert all(task in said for task in TASKS)

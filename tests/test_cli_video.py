"""`transfer eval` and `transfer report` for video models, and which models those are."""

import json

import pytest
import tiny_video

from transfer import cli
from transfer.cli.eval_command import with_kind
from transfer.errors import UserError
from transfer.evaluation import video_benchmark
from transfer.evaluation.store import read_results
from transfer.tasks.video import VIDEO_TASKS


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
    # Accuracy, costs, what is held, and accuracy by category; the full cache beside either kind of
    # budget.
    for reader, times in ((["full", "-"], 7), (["tova", "50%"], 4), (["tova", "20"], 4)):
        assert lines.count(reader) == times
    title = "model on jsonl: 1 questions, 1 videos, 4 frames, chance 50.0%; % right [95%]"
    assert printed.startswith(f"Budgets that are a fraction of the tokens seen\n\n{title}")
    assert f"Budgets that are a number of tokens\n\n{title}" in printed
    assert cli.main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out in (printed, f"{printed}{tmp_path / 'report.html'}\n")


def test_words_that_the_model_does_not_know_are_said(folder, words, tmp_path, capsys):
    asked = json.loads((folder / "questions.jsonl").read_text())
    other = folder / "other.jsonl"
    other.write_text(json.dumps({**asked, "question": "what jumps ?"}) + "\n")
    words[words.index("--data") + 1] = str(other)
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.err.endswith("does not know 'jumps', and answers as if that were not there\n")
    assert "1 questions (1 with words unknown to the model)" in said.out
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert all(row["unknown_words"] == ["jumps"] for row in rows)


def test_json_is_all_that_reaches_standard_output(words, tmp_path, capfd):
    assert cli.main([*words, "--json", "--out", str(tmp_path)]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed == json.loads((tmp_path / "results.json").read_text())
    assert printed["command"].split()[:5] == ["transfer", "eval", "video", *words[1:3]]
    assert printed["kind"] == "video"
    assert {entry["metric"] for entry in printed["summary"]} == set(printed["metrics"])


def test_the_same_command_twice_asks_once(words, tmp_path, monkeypatch):
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    monkeypatch.setattr(
        video_benchmark, "read_clip", lambda *args, **kwargs: pytest.fail("read again")
    )
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    assert len(read_results(tmp_path).rows) == 3


def test_more_questions_than_there_are_is_said(words, capsys):
    assert cli.main([*words, "--questions", "7"]) == 0
    said = "jsonl has 1 questions, fewer than the 7 asked for; all are asked"
    assert capsys.readouterr().err.splitlines()[0] == said


def test_ctrl_c_says_that_the_run_can_go_on(words, tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(video_benchmark, "read_clip", interrupted)
    assert cli.main([*words, "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"interrupted: 0 rows are kept in {tmp_path}; the same command goes on from there"
    )
    assert read_results(tmp_path).interrupted


def test_when_every_question_failed_the_exit_code_says_so(words, folder, capsys):
    words[words.index("--data") + 1] = str(folder / "lost.jsonl")
    assert cli.main(words) == 1
    out, err = capsys.readouterr()
    assert "in no mean: 3 of 3 rows" in out and "gone.mp4 does not exist" in out
    assert err.strip() == "error: every item of full, tova failed; see above"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["--model", "llava-next-video"], "video"),
        (["--model=llava-next-video", "--task", "jsonl"], "video"),
        (["--model", "llama-recall"], "language"),
        (["--documents", "3", "--model=gpt2-recall"], "language"),
        (["--model", "decision-transformer"], "control"),
        (["--model", "edbeeching/decision-transformer-gym-hopper-medium"], "control"),
        (["--suite", "zero-shot", "--quick"], "suite"),
        (["--suite"], "suite"),
    ],
)
def test_the_kind_is_put_in_where_it_is_left_out(words, kind):
    assert with_kind(words) == [kind, *words]
    assert with_kind([kind, *words]) == [kind, *words]


@pytest.mark.parametrize("words", [[], ["--help"], ["--model", "--help"]])
def test_without_a_model_the_kinds_are_what_is_asked_for(words):
    assert with_kind(words) == words


@pytest.mark.parametrize("words", [["--episodes", "3"], ["--model"], ["--policy", "h2o"]])
def test_options_without_a_model_are_answered_with_what_is_missing(words):
    with pytest.raises(UserError, match="name a model with --model, or one of language, video"):
        with_kind(words)


def test_a_kind_that_is_none_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="unknown kind of evaluation 'languag'; did you mean langu"):
        with_kind(["languag", "--model", "x"])


def test_the_help_of_video_models_names_their_tasks(capsys):
    with pytest.raises(SystemExit):
        cli.main(["eval", "--model", "llava-next-video", "--help-all"])
    said = capsys.readouterr().out
    assert all(task in said for task in VIDEO_TASKS)

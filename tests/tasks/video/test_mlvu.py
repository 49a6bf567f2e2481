import pytest
from tasks.video.written import touch, write_json

from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video_records import NONE_RIGHT, VIDEO

BENCHMARK = VIDEO_TASKS["mlvu"]
PLOT = {
    "video": "movie101_66.mp4",
    "duration": 480.0,
    "question": "What color is the car?",
    "candidates": ["Red", "Blue", "White", "Black"],
    "answer": "Black",
    "question_type": "plotQA",
}
NEEDLE = {**PLOT, "video": "needle_32.mp4", "answer": "Red", "question_type": "findNeedle"}
TEST = {
    **PLOT,
    "video": "test_surveil_27.mp4",
    "candidates": ["One", "Two", "Three", "Four", "Five", "Six"],
    "answer": "Six",
    "question_type": "sportsQA",
    "question_id": "SQ_5",
}


def write(folder, plot=(PLOT, PLOT), needle=(NEEDLE,)):
    write_json(folder / "json/1_plotQA.json", list(plot))
    write_json(folder / "json/2_needle.json", list(needle))
    # free text, scored by a judge: not read
    write_json(folder / "json/9_summary.json", [{"video": "v.mp4", "question": "?", "answer": "x"}])
    touch(folder / "video/1_plotQA/movie101_66.mp4")
    # videos that were withdrawn are folders of frames
    touch(folder / "video/2_needle/needle_32.mp4/0.jpg")
    return folder


def test_dev(tmp_path):
    one, two, needle = BENCHMARK.read(write(tmp_path))
    assert [one.id, two.id, needle.id] == ["1_plotQA-0", "1_plotQA-1", "2_needle-0"]
    assert one.video == tmp_path / "video/1_plotQA/movie101_66.mp4"
    assert needle.video == tmp_path / "video/2_needle/needle_32.mp4"
    assert needle.video.is_dir()
    assert (one.answer, needle.answer) == (3, 0)
    assert (one.category, needle.category) == ("plotQA", "needle")
    assert one.duration == 480.0
    assert (BENCHMARK.sampling, BENCHMARK.tokens) == ("midpoint", 16)


def test_prompt(tmp_path):
    question = BENCHMARK.read(write(tmp_path))[0]
    prompt = BENCHMARK.prompt(question, (1.0,))
    assert prompt.system == (
        "Carefully watch this video and pay attention to every detail. Based on your observations,"
        " select the best option that accurately addresses the question."
    )
    assert prompt.parts == (
        VIDEO,
        "\nQuestion: What color is the car?\nOptions:\n(A) Red\n(B) Blue\n(C) White\n(D) Black\n"
        "Only give the best option.",
    )
    assert prompt.prefill == "Best Option: ("
    assert prompt.answers == ("A", "B", "C", "D")


def test_test_set_has_six_options(tmp_path):
    write_json(tmp_path / "test-ground-truth/test_mcq_gt.json", [TEST])
    touch(tmp_path / "MLVU_Test/video/test_surveil_27.mp4")
    [question] = BENCHMARK.read(tmp_path)
    assert (question.id, question.category, question.answer) == ("SQ_5", "sportsQA", 5)
    assert question.video == tmp_path / "MLVU_Test/video/test_surveil_27.mp4"
    assert BENCHMARK.prompt(question, ()).answers == tuple("ABCDEF")
    assert [BENCHMARK.parse(reply, question) for reply in ("E) Five", "F", "(F) Six", "G)")] == [
        4, 5, 5, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "option"),
    [("B) Blue", 1), ("C", 2), ("(D) Black", 3), ("white) it is", None), (")", None), ("", None),
     ("I see A) Red", 0), ("no idea (at all)", None), ("B.", None), ("b", None), ("Blue", None),
     ("E", None), ("BC", None), ("(B", None)],
)  # fmt: skip
def test_what_stands_before_the_bracket(tmp_path, reply, option):
    assert BENCHMARK.parse(reply, BENCHMARK.read(write(tmp_path))[0]) == option


def test_questions_without_answers(tmp_path):
    write_json(
        tmp_path / "test_multi_choice_tasks.json",
        [{name: value for name, value in TEST.items() if name != "answer"}],
    )
    assert BENCHMARK.read(tmp_path)[0].answer is None


def test_an_answer_that_is_no_option_is_counted_and_never_right(tmp_path):
    one, two, _ = BENCHMARK.read(write(tmp_path, plot=[{**PLOT, "answer": "black"}, PLOT]))
    assert (one.answer, two.answer) == (NONE_RIGHT, 3)
    # As it is published, with a blank too many.
    [one, *_] = BENCHMARK.read(write(tmp_path, plot=[{**PLOT, "answer": "Black "}]))
    assert one.answer == NONE_RIGHT


def test_of_equal_options_the_last_is_right(tmp_path):
    records = [
        {**PLOT, "candidates": ["Six", "Three", "Three", "Eight"], "answer": "Three"},
        {**PLOT, "candidates": ["2", "5", "10", ""], "answer": ""},
        {**PLOT, "question": "", "candidates": [""] * 4, "answer": ""},
    ]
    three, empty, nothing, _ = BENCHMARK.read(write(tmp_path, plot=records))
    assert (three.answer, empty.answer, nothing.answer) == (2, 3, 3)
    assert BENCHMARK.prompt(nothing, ()).parts[1] == (
        "\nQuestion: \nOptions:\n(A) \n(B) \n(C) \n(D)\nOnly give the best option."
    )


def test_videos_in_folders_of_other_names(tmp_path):
    write_json(tmp_path / "upload_json/2_needle.json", [NEEDLE])
    for folder in ("video/needle", "MLVU_all/video/needle"):
        path = touch(tmp_path / folder / NEEDLE["video"])
        assert BENCHMARK.read(tmp_path)[0].video == path
        path.unlink()


def test_predictions_as_the_authors_take_them(tmp_path):
    hidden = {name: value for name, value in TEST.items() if name != "answer"}
    write_json(tmp_path / "test_question.json", [hidden])
    [question] = BENCHMARK.read(tmp_path)
    told = {"question_id": "SQ_5", "question_type": "sportsQA"}
    assert BENCHMARK.submission([(question, 5, "F")]) == [{**told, "option": "F"}]
    assert BENCHMARK.submission([(question, None, "none")]) == [{**told, "option": "none"}]
    write_json(tmp_path / "test_question.json", [{**hidden, "question_type": "needleQA"}])
    [question] = BENCHMARK.read(tmp_path)
    assert question.category == "needle"
    assert BENCHMARK.submission([(question, 0, "A")])[0]["question_type"] == "needleQA"


def test_m_avg_is_the_mean_over_tasks():
    assert BENCHMARK.aggregation == "macro"


def test_some_questions_are_of_all_tasks_and_keep_their_ids(tmp_path):
    data = write(tmp_path, plot=[PLOT] * 4, needle=[NEEDLE] * 4)
    some = BENCHMARK.read(data, 4)
    assert [one.id for one in some] == ["1_plotQA-0", "1_plotQA-2", "2_needle-0", "2_needle-2"]
    assert len(BENCHMARK.read(data, 100)) == 8

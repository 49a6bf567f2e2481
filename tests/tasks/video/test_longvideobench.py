import pytest
from tasks.video.written import touch, write_json

from transfer.errors import UserError
from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video_records import FRAME, VIDEO, BrokenRecord, Subtitle

BENCHMARK = VIDEO_TASKS["longvideobench"]
SILENT = VIDEO_TASKS["longvideobench-no-subtitles"]
RECORD = {
    "video_id": "86CxyhFV9MI",
    "id": "86CxyhFV9MI_0",
    "video_path": "86CxyhFV9MI.mp4",
    "subtitle_path": "86CxyhFV9MI_en.json",
    "question": "On the screen a woman speaks. Who is she?",
    "candidates": ["a cook", "a judge", "a pilot"],
    "correct_choice": 1,
    "duration": 12.7,
    "duration_group": 15,
    "question_category": "S2E",
    "topic_category": "NP-News-Programs",
    "starting_timestamp_for_subtitles": 100.0,
}
TIMESTAMPS = [
    {"timestamp": [100.5, 104.5], "text": "Good evening."},
    {"timestamp": [106.1, 106.3], "text": "Too short for any frame."},
    {"timestamp": [107.9, 108.1], "text": "Half a second."},
    {"timestamp": [111, None], "text": "Until the end."},
]
CLOCK = [
    {"start": "00:01:40.500", "end": "00:01:44.500", "line": " Good evening. "},
    {"start": "00:01:48,0", "end": "00:01:48.25", "line": "Half a second."},
]
SECONDS = (0.0, 4.0, 8.0, 12.0)


def write(folder, *records, subtitles=TIMESTAMPS):
    write_json(folder / "subtitles/86CxyhFV9MI_en.json", subtitles)
    touch(folder / "videos/86CxyhFV9MI.mp4")
    write_json(folder / "lvb_val.json", list(records or (RECORD,)))
    return folder


def test_record(tmp_path):
    [question] = BENCHMARK.read(write(tmp_path))
    assert question.id == "86CxyhFV9MI_0"
    assert question.video == tmp_path / "videos/86CxyhFV9MI.mp4"
    assert question.options == ("a cook", "a judge", "a pilot")
    assert (question.answer, question.category, question.duration_group) == (1, "S2E", "15")
    assert question.duration == 12.7
    assert question.subtitles[0] == Subtitle(0.5, 4.5, "Good evening.")
    # without an end it lasts as long as the video
    assert question.subtitles[-1] == Subtitle(11.0, 12.7, "Until the end.")
    assert BENCHMARK.groupings == ("category", "duration_group")
    assert (BENCHMARK.sampling, BENCHMARK.aggregation, BENCHMARK.tokens) == ("segment", "micro", 32)


def test_prompt_with_subtitles_between_frames(tmp_path):
    [question] = BENCHMARK.read(write(tmp_path))
    prompt = BENCHMARK.prompt(question, SECONDS)
    assert prompt.parts == (
        FRAME,
        # the middle is 2.5 s, between the first and the second frame
        "\nGood evening.\n",
        FRAME,
        FRAME,
        "\nHalf a second.\n",
        "\nUntil the end.\n",
        FRAME,
        "\nQuestion: On the screen a woman speaks. Who is she?\n"
        "A. a cook\nB. a judge\nC. a pilot\n"
        "Answer with the option's letter from the given choices directly.",
    )
    assert prompt.answers == ("A", "B", "C")
    assert (prompt.system, prompt.prefill) == ("", "")


def test_other_dialect_is_the_same(tmp_path):
    [question] = BENCHMARK.read(write(tmp_path, subtitles=CLOCK))
    assert question.subtitles == (
        Subtitle(0.5, 4.5, "Good evening."),
        Subtitle(8.0, 8.25, "Half a second."),
    )


def test_a_frame_at_the_middle_stands_before_the_line(tmp_path):
    lines = [{"timestamp": [103.0, 105.0], "text": "At four."}]
    [question] = BENCHMARK.read(write(tmp_path, subtitles=lines))
    assert BENCHMARK.prompt(question, SECONDS).parts[:4] == (FRAME, FRAME, "\nAt four.\n", FRAME)


@pytest.mark.parametrize("lines", [[], [{"timestamp": [105.0, 107.0], "text": "Between frames."}]])
def test_without_a_line_in_any_frame(tmp_path, lines):
    [question] = BENCHMARK.read(write(tmp_path, subtitles=lines))
    parts = BENCHMARK.prompt(question, SECONDS).parts
    assert parts[0] == VIDEO
    assert len(parts) == 2


def test_without_subtitles_at_all(tmp_path):
    write_json(tmp_path / "lvb_val.json", [RECORD])
    [question] = SILENT.read(tmp_path)
    assert question.subtitles == ()
    assert SILENT.prompt(question, SECONDS).parts[0] == VIDEO
    [broken] = BENCHMARK.read(tmp_path)
    assert isinstance(broken, BrokenRecord)
    assert broken.reason.startswith("record 86CxyhFV9MI_0 has no subtitles ")
    assert "unpack subtitles.tar, or use longvideobench-no-subtitles" in broken.reason


def test_at_most_a_frame_a_second(tmp_path):
    [question] = BENCHMARK.read(write(tmp_path))
    assert [BENCHMARK.frames_of(question, most) for most in (8, 12, 32)] == [8, 12, 12]


def test_padded_options_of_the_parquet_form(tmp_path):
    padded = {name: value for name, value in RECORD.items() if name != "candidates"}
    options = {"option0": "yes", "option1": "no", "option2": "N/A", "option3": "N/A"}
    write(tmp_path, {**padded, **options, "option4": "N/A"})
    [question] = BENCHMARK.read(tmp_path)
    assert question.options == ("yes", "no")


def test_test_set_has_no_answers(tmp_path):
    hidden = {name: value for name, value in RECORD.items() if name != "correct_choice"}
    [question] = BENCHMARK.read(write(tmp_path, hidden))
    assert question.answer is None


@pytest.mark.parametrize("choice", [-1, "-1", -1.0])
def test_in_the_test_set_the_answers_are_withheld(tmp_path, choice):
    write(tmp_path)
    path = write_json(tmp_path / "lvb_test_wo_gt.json", [{**RECORD, "correct_choice": choice}])
    [question] = BENCHMARK.read(path)
    assert question.answer is None
    assert question.video == tmp_path / "videos/86CxyhFV9MI.mp4"
    assert len(question.subtitles) == 4
    said = [(question, 2, "C."), (question, None, "a cook or so")]
    assert [BENCHMARK.submission([one]) for one in said] == [
        {"86CxyhFV9MI_0": "C"}, {"86CxyhFV9MI_0": "a cook or so"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"candidates": []}, "record 86CxyhFV9MI_0 has 0 options; give 2 to 8"),
        ({"candidates": "yes"}, "has no list 'candidates'"),
        ({"candidates": [["yes"], "no"]}, "has 'candidates' with something that is no text"),
        ({"correct_choice": 3}, "has 3 options and its answer is option 3; count from 0 to 2"),
        ({"correct_choice": "B"}, "has 'correct_choice' 'B'; give the index of an option, from 0"),
        ({"correct_choice": True}, "has 'correct_choice' True"),
        ({"question": None}, "has no text 'question'; add it"),
        ({"duration": "long"}, "has 'duration' 'long'; use a number of 0 or more"),
        ({"subtitle_path": "missing.json"}, "has no subtitles "),
    ],
)
def test_broken_records_do_not_end_the_run(tmp_path, changes, said):
    other = {**RECORD, "id": "other"}
    broken, question = BENCHMARK.read(write(tmp_path, {**RECORD, **changes}, other))
    assert isinstance(broken, BrokenRecord)
    assert broken.id == "86CxyhFV9MI_0"
    assert broken.reason.startswith("record 86CxyhFV9MI_0 ")
    assert said in broken.reason
    assert question.id == "other"


@pytest.mark.parametrize(
    "subtitles", [{"a": 1}, [{"text": "no time"}], [3], [{"start": "soon", "end": "now"}]]
)
def test_broken_subtitles_name_record_and_file(tmp_path, subtitles):
    [broken] = BENCHMARK.read(write(tmp_path, subtitles=subtitles))
    assert isinstance(broken, BrokenRecord)
    assert broken.reason.startswith("record 86CxyhFV9MI_0: ")
    assert "86CxyhFV9MI_en.json" in broken.reason


def test_reply_without_a_letter_is_no_answer(tmp_path):
    [question] = BENCHMARK.read(write(tmp_path))
    assert BENCHMARK.parse("Answer: B", question) == 1
    assert BENCHMARK.parse("I cannot see the woman, sorry.", question) is None


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*absent, and so no lvb_val.json or "):
        BENCHMARK.read(tmp_path / "absent")
    with pytest.raises(UserError, match=r"the folder .* has no lvb_val.json or .* check --data"):
        BENCHMARK.read(tmp_path)
    with pytest.raises(UserError, match="task longvideobench comes without data"):
        BENCHMARK.read(None)
    with pytest.raises(UserError, match=r"; longvideobench has lvb_val.json with videos/ and sub"):
        BENCHMARK.read(tmp_path)

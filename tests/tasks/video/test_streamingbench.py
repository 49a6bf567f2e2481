from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tasks.video.written import ask, touch, write_json

from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video.files import Row
from transfer.video.frames import read_clip

BENCHMARK = VIDEO_TASKS["streamingbench"]
MINUTE = VIDEO_TASKS["streamingbench-60s"]
OPTIONS = ["A. Buns.", "B. Utensils.", "C. Dispensers.", "D. Trays."]
QUESTION = {
    "task_type": "Clips Summarize",
    "question": "What was taken just now?",
    "time_stamp": "00:03:10",
    "answer": "C",
    "options": OPTIONS,
    "required_ability": "episodic memory",
}
PART = {
    "time": "[0:03:00 - 0:04:00]",
    "questions": [QUESTION],
    "video_categories": "preparation_of_meals",
    "video_path": "./videos/sample_348_real.mp4",
}


def write(folder, *parts, name="real"):
    write_json(folder / f"questions_{name}.json", list(parts or (PART,)))
    return folder


def test_a_question_is_about_the_video_before_it(tmp_path):
    path = touch(tmp_path / "videos/sample_348_real.mp4")
    [question] = BENCHMARK.read(write(tmp_path))
    assert (question.id, question.video) == ("questions_real-0", path)
    assert (question.answer, question.category) == (2, "Clips Summarize")
    assert question.start == 0 and 189.99 < question.end < 190
    [question] = MINUTE.read(tmp_path)
    assert question.start == 130 and 189.99 < question.end < 190


def test_frames_from_the_question_on_are_not_seen(tmp_path):
    frames = tmp_path / "videos/sample_348_real.mp4"
    for number in range(8):
        Image.new("RGB", (4, 4)).save(touch(frames / f"{number}.png"))
    early = {**PART, "questions": [{**QUESTION, "time_stamp": "00:00:05"}]}
    [question] = BENCHMARK.read(write(tmp_path, early))
    most = BENCHMARK.frames_of(question, 32)
    bounds = {"start": question.start, "end": question.end}
    for count in (most, most + 1):
        assert read_clip(question.video, count, "uniform", **bounds).seconds == (0, 1, 2, 3, 4)


@given(st.integers(1, 20_000), st.integers(1, 64))
def test_at_most_a_frame_a_second(second, most):
    stamp = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    row = Row("x", {**QUESTION, "time_stamp": stamp, "video_path": "v.mp4"}, Path("none/q.json"))
    question, last = BENCHMARK.question(row), MINUTE.question(row)
    assert BENCHMARK.frames_of(question, most) == min(most, second)
    assert MINUTE.frames_of(last, most) == min(most, second, 60)


def test_prompt(tmp_path):
    [question] = BENCHMARK.read(write(tmp_path))
    prompt = BENCHMARK.prompt(question, ())
    assert prompt.parts[1] == (
        "\nYou are an advanced video question-answering AI assistant. You have been provided with"
        " some frames from the video and a multiple-choice question related to the video. Your task"
        " is to carefully analyze the video and provide the best answer to question, choosing from"
        " the four options provided. Respond with only the letter (A, B, C, or D) of the correct"
        " option.\n\nQuestion: What was taken just now?\n\nOptions:\nA. Buns.\nB. Utensils.\n"
        "C. Dispensers.\nD. Trays.\n\nThe best option is:"
    )
    assert prompt.answers == tuple("ABCD")


def test_more_than_four_options_are_not_shown(tmp_path):
    more = {**PART, "questions": [{**QUESTION, "options": [*OPTIONS, "E. Cups."]}]}
    [question] = VIDEO_TASKS["streamingbench-omni"].read(write(tmp_path, more, name="omni"))
    assert len(question.options) == 4
    assert "D. Trays.\n\nThe best" in question.prompt.parts[1]


def test_in_sequences_earlier_answers_are_told(tmp_path):
    bare = [option[3:] for option in OPTIONS]
    first = {**PART, "questions": [{**QUESTION, "options": bare}]}
    second = {**PART, "questions": [{**QUESTION, "question": "And then?", "answer": "A"}]}
    task = VIDEO_TASKS["streamingbench-sqa"]
    found = task.read(write(tmp_path, [first, second, second], [second], name="sqa"))
    told = [one.prompt.parts[1].split("option.\n\n")[1].split("\n\nHere is")[0] for one in found]
    begin = (
        "Here are the contextual information related to the video. Please answer the questions"
        " based on the contextual information: "
    )
    earlier = (
        "At timestamp 00:03:10, the following question and answer occurred: Question: {}; Options:"
        " A. Buns., B. Utensils., C. Dispensers., D. Trays.; Answer: {}; "
    )
    one, two = earlier.format(QUESTION["question"], "C"), earlier.format("And then?", "A")
    assert told == ["", begin + one, begin + one + two, ""]
    assert "Options:\nA. Buns.\nB. Utensils.\n" in found[0].prompt.parts[1]
    assert found[1].question == "And then?"


@pytest.mark.parametrize(
    "path",
    ["data/real/sample_348/video.mp4", "real/sample_348/x.mp4", "a/videos/sample_348_real.mp4"],
)
def test_other_places_of_videos(tmp_path, path):
    touch(tmp_path / path)
    touch(tmp_path / "data/omni/sample_348/other.mp4")
    touch(tmp_path / "data/real/sample_34/other.mp4")
    assert BENCHMARK.read(write(tmp_path))[0].video == tmp_path / path


def test_parts_in_folders_of_several_words(tmp_path):
    path = touch(tmp_path / "data/omni/Scene Understanding/sample_7/video.mp4")
    part = {**PART, "video_path": "./videos/sample_7_Scene_Understanding.mp4"}
    task = VIDEO_TASKS["streamingbench-omni"]
    assert task.read(write(tmp_path, part, name="omni"))[0].video == path


@pytest.mark.parametrize(
    ("reply", "option"), [("C", 2), ("C. Dispensers", 2), ("A man", 0), ("c", None), ("(C)", None),
                          ("", None), ("E", None)],
)  # fmt: skip
def test_the_first_character_decides(reply, option):
    assert BENCHMARK.parse(reply, ask(*OPTIONS)) == option


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"time_stamp": "soon"}, "has 'time_stamp' 'soon'; write it like 00:03:10"),
        ({"time_stamp": "0:0:0:1"}, "has 'time_stamp' '0:0:0:1'"),
        ({"time_stamp": "00:00:00"}, "a question comes after the first frame"),
        ({"time_stamp": None}, "has no text 'time_stamp'"),
        ({"options": []}, "has 0 options"),
        ({"question": " "}, "asks nothing"),
    ],
)
def test_broken_records(tmp_path, changes, said):
    broken = {**PART, "questions": [{**QUESTION, **changes}, "?"]}
    one, other, third = BENCHMARK.read(write(tmp_path, broken, "?"))
    assert said in one.reason
    assert other.reason == "record questions_real-1 is no JSON object; mend or delete it"
    assert "is no JSON object" in third.reason

import json

import pytest
from tasks.video.written import ask, touch, write_json, write_text

from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video_records import BrokenRecord

BENCHMARK = VIDEO_TASKS["lvbench"]
QUESTION = {
    "uid": "0",
    "question": "What year is shown?\n(A) 1636\n(B) 1366\n(C) 1363\n(D) 1633",
    "answer": "D",
    "question_type": ["key information retrieval", "reasoning"],
    "time_reference": "00:15-00:19",
}
VIDEO = {"key": "Cm73ma6Ibcs", "type": "live", "video_info": {"fps": 30}, "qa": [QUESTION]}


def write(folder, *videos):
    lines = [json.dumps(video) for video in videos or (VIDEO,)]
    write_text(folder / "data/video_info.meta.jsonl", *lines)
    return folder


def test_record(tmp_path):
    path = touch(tmp_path / "videos/Cm73ma6Ibcs.mp4")
    [question] = BENCHMARK.read(write(tmp_path))
    assert (question.id, question.video) == ("0", path)
    assert question.question == "What year is shown?"
    assert question.options == ("1636", "1366", "1363", "1633")
    assert (question.answer, question.category) == (3, "live")
    assert question.abilities == ("key information retrieval", "reasoning")
    assert BENCHMARK.groupings == ("abilities",)
    assert BENCHMARK.prompt(question, ()).parts[1] == (
        "\nWhat year is shown?\n(A) 1636\n(B) 1366\n(C) 1363\n(D) 1633\n"
        "Answer the question with the option letter"
    )


def test_videos_as_the_authors_script_downloads_them(tmp_path):
    folder = tmp_path / "scripts/videos/00000"
    for number, key in enumerate(("other", "Cm73ma6Ibcs")):
        url = f"https://www.youtube.com/watch?v={key}"
        write_json(folder / f"0000000{number}.json", {"url": url, "key": f"0000000{number}"})
    [question] = BENCHMARK.read(write(tmp_path))
    assert question.video == folder / "00000001.mp4"
    write_json(folder / "00000001.json", ["no such file"])
    [question] = BENCHMARK.read(tmp_path)
    assert question.video == tmp_path / "scripts/videos/Cm73ma6Ibcs.mp4"


@pytest.mark.parametrize(
    ("reply", "option"),
    [("D", 3), ("(D) 1633", 3), ("D) 1633", 3), ("D. 1633", 3), ("Dog", 3), ("The (B) one", 1),
     ("The answer is B", None), ("d", None), ("", None), ("()", None), ("E", None)],
)  # fmt: skip
def test_replies_are_read_as_the_authors_polish_them(reply, option):
    assert BENCHMARK.parse(reply, ask(*"abcd")) == option


def test_broken_records(tmp_path):
    videos = (
        {**VIDEO, "qa": [{**QUESTION, "question": "What?"}, 3]},
        {**VIDEO, "qa": [{**QUESTION, "uid": "2", "question_type": "reasoning"}]},
        {"key": "x"},
    )
    found = BENCHMARK.read(write(tmp_path, *videos))
    assert all(isinstance(one, BrokenRecord) for one in found)
    assert [one.reason for one in found] == [
        "record 0 has 0 options; give 2 to 8",
        "record video_info.meta-1 is no JSON object; mend or delete it",
        "record 2 has no list 'question_type'; add it",
        "record video_info.meta-3 has no text 'question'; add it",
    ]

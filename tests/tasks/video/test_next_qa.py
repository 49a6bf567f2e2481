import pytest
from tasks.video.written import touch, write_json, write_text

from transfer.tasks.video import VIDEO_TASKS

BENCHMARK = VIDEO_TASKS["next-qa"]
HEAD = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
ASKED = '4010069381,369,640,480,"how do the two man play, at first"'
LINE = ASKED + ",{answer},6,{type},roll,tap,sing,hit,pat"


def write(folder, *lines):
    write_text(folder / "val.csv", HEAD, *lines)
    return folder


def test_csv(tmp_path):
    touch(tmp_path / "NExTVideo/4010069381.mp4")
    write(tmp_path, LINE.format(answer=4, type="CH"))
    [question] = BENCHMARK.read(tmp_path)
    assert question.id == "4010069381_6"
    assert question.video == tmp_path / "NExTVideo/4010069381.mp4"
    assert question.question == "how do the two man play, at first"
    assert question.options == ("roll", "tap", "sing", "hit", "pat")
    assert (question.answer, question.category) == (4, "causal")
    assert BENCHMARK.prompt(question, ()).parts[1] == (
        "\nhow do the two man play, at first\nA. roll\nB. tap\nC. sing\nD. hit\nE. pat\n"
        "Answer with the option's letter from the given choices directly."
    )


@pytest.mark.parametrize(
    ("kind", "category"),
    [("CW", "causal"), ("TN", "temporal"), ("TC", "temporal"), ("DL", "descriptive")],
)
def test_kinds(tmp_path, kind, category):
    [question] = BENCHMARK.read(write(tmp_path, LINE.format(answer=0, type=kind)))
    assert question.category == category


def test_names_that_vidor_gives_the_videos(tmp_path):
    touch(tmp_path / "videos/1164/4010069381.mp4")
    write_json(tmp_path / "map_vid_vidorID.json", {"4010069381": "1164/4010069381"})
    [question] = BENCHMARK.read(write(tmp_path, LINE.format(answer=0, type="CW")))
    assert question.video == tmp_path / "videos/1164/4010069381.mp4"


def test_json_of_the_hub(tmp_path):
    row = {"video": 24, "question": "why", "answer": 0, "qid": 1, "type": "TP"}
    row |= {f"a{place}": f"option {place}" for place in range(5)}
    write_json(tmp_path / "mc.json", [row, {**row, "qid": 2, "a3": None}, row])
    question, short, twice = BENCHMARK.read(tmp_path)
    assert question.video == tmp_path / "videos/24.mp4"
    assert question.options[4] == "option 4"
    assert short.reason == "record 24_2 has no text 'a3'; add it"
    assert twice.id == "24_1 (place 2)"
    assert twice.reason.startswith("record 24_1 stands twice; give each record an id of its own")


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (5, "CW", "has 5 options and its answer is option 5"),
        ("a", "CW", "has 'answer' 'a'; give the index of an option, from 0"),
        (0, "XX", "has the type 'XX'; use one that begins with C, T or D"),
    ],
)
def test_broken_records(tmp_path, answer, kind, said):
    [broken] = BENCHMARK.read(write(tmp_path, LINE.format(answer=answer, type=kind)))
    assert said in broken.reason

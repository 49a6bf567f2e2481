import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.video.written import ask, touch, write_json, write_zip

from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video.archives import unpacked
from transfer.tasks.video.mvbench import FOLDERS
from transfer.tasks.video_records import NONE_RIGHT, VIDEO

BENCHMARK = VIDEO_TASKS["mvbench"]
CLIP = {
    "video": "ZS9XR.mp4",
    "question": "What happened after the person took the food?",
    "candidates": ["Ate it.", "Tidied up.", "Washed it."],
    "answer": "Ate it.",
    "start": 11.1,
    "end": 17.2,
}
WHOLE = {
    "video": "video_10009.mp4",
    "question": "Which moved?",
    "candidates": ["Down", "Up"],
    "answer": "Up",
}


def test_clip_of_a_video(tmp_path):
    write_json(tmp_path / "json/action_sequence.json", [CLIP])
    touch(tmp_path / "video/star/Charades_v1_480/ZS9XR.mp4")
    [question] = BENCHMARK.read(tmp_path)
    assert question.id == "action_sequence-0"
    assert question.video == tmp_path / "video/star/Charades_v1_480/ZS9XR.mp4"
    assert (question.start, question.end) == (11.1, 17.2)
    assert (question.answer, question.category) == (0, "action_sequence")


def test_other_folders(tmp_path):
    write_json(tmp_path / "json/moving_direction.json", [WHOLE])
    touch(tmp_path / "video/data0613/clevrer/video_validation/video_10009.mp4")
    frames = {**CLIP, "video": "friends_s03e09_seg02_clip_07_ep"}
    write_json(tmp_path / "json/episodic_reasoning.json", [frames])
    touch(tmp_path / "video/tvqa/frames_fps3_hq/friends_s03e09_seg02_clip_07_ep/00001.jpg")
    episode, moved = BENCHMARK.read(tmp_path)
    assert episode.video.is_dir()
    assert (episode.folder_fps, episode.start) == (3.0, 11.1)
    assert moved.video.is_file()
    assert (moved.start, moved.end, moved.answer) == (None, None, 1)


def test_missing_video_is_named_where_it_should_be(tmp_path):
    write_json(tmp_path / "json/object_shuffle.json", [WHOLE])
    touch(tmp_path / "video/perception/videos/another.mp4")
    [question] = BENCHMARK.read(tmp_path)
    assert question.video == tmp_path / "video/perception/videos/video_10009.mp4"


def test_prompt(tmp_path):
    write_json(tmp_path / "json/moving_direction.json", [WHOLE])
    [question] = BENCHMARK.read(tmp_path)
    prompt = BENCHMARK.prompt(question, (0.0,))
    assert prompt.parts == (
        VIDEO,
        "\nQuestion: Which moved?\nOptions:\n(A) Down\n(B) Up\nOnly give the best option.",
    )
    assert prompt.prefill == "Best option:("
    assert prompt.system.startswith("Carefully watch the video and pay attention to the cause and")
    assert (BENCHMARK.frames, BENCHMARK.sampling) == (16, "midpoint")
    assert BENCHMARK.parse("B) Up", question) == 1


def test_empty_replies_mean_nothing(tmp_path):
    assert len(FOLDERS) == 20
    write_json(tmp_path / "json/a.json", [WHOLE] * 3)
    write_json(tmp_path / "json/b.json", [WHOLE])
    questions = BENCHMARK.read(tmp_path)
    replies = ["B)", "", "A)", "(B)"]
    said = [BENCHMARK.parse(reply, one) for reply, one in zip(replies, questions)]
    assert said == [1, None, 0, 1]
    assert BENCHMARK.aggregation == "macro"


def test_bounds_the_wrong_way_round(tmp_path):
    write_json(tmp_path / "json/action_sequence.json", [{**CLIP, "start": 20}])
    [broken] = BENCHMARK.read(tmp_path)
    assert "record action_sequence-0 is about seconds 20.0 to 17.2" in broken.reason


def test_records_with_one_option_are_asked_and_counted(tmp_path):
    alone = {**WHOLE, "candidates": ["The cube stops"], "answer": "The cube stops"}
    write_json(tmp_path / "json/counterfactual_inference.json", [alone, WHOLE])
    one, two = BENCHMARK.read(tmp_path)
    assert (one.options, one.answer, two.answer) == (("The cube stops",), 0, 1)
    prompt = BENCHMARK.prompt(one, ())
    assert "Options:\n(A) The cube stops\nOnly give" in prompt.parts[1]
    assert prompt.answers == ("A",)
    assert [BENCHMARK.parse(reply, one) for reply in ("A)", "B)", "")] == [0, None, None]


def test_of_equal_options_the_last_is_right(tmp_path):
    records = [
        {**WHOLE, "candidates": ["Up", "Up", "Down"]},
        {**WHOLE, "candidates": ["Left", "Down"]},
    ]
    write_json(tmp_path / "json/moving_direction.json", records)
    assert [one.answer for one in BENCHMARK.read(tmp_path)] == [1, NONE_RIGHT]


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        ("B) Up", 1), ("b", 1), ("B.", 1), ("(B) Up", 1), ("(B): Up", 1), (" B\nA", 1), ("B Up", 1),
        ("A man goes up", 0), ("Up", None), ("The answer is B", None), ("C", None), ("", None),
        ("\n", None), (".", None), (")", None), ("D)", None),
    ],
)  # fmt: skip
def test_the_first_word_decides(reply, option):
    assert BENCHMARK.parse(reply, ask("Down", "Up")) == option


@given(st.sampled_from("ABCDE"), st.sampled_from(["", ".", ")", ".)", "):"]), st.text())
def test_a_letter_is_its_option_whatever_follows_it(letter, mark, more):
    question = ask("p", "q", "r", "s", "t")
    assert BENCHMARK.parse(f"{letter}{mark} {more}", question) == "ABCDE".index(letter)


def test_videos_in_the_archives(tmp_path):
    write_json(tmp_path / "json/object_shuffle.json", [WHOLE])
    write_json(tmp_path / "json/episodic_reasoning.json", [{**CLIP, "video": "friends_s03"}])
    # Another task has a video of the same name.
    write_zip(tmp_path / "video/clevrer.zip", {"clevrer/video_validation/video_10009.mp4": b"no"})
    write_zip(tmp_path / "video/perception.zip", {"perception/videos/video_10009.mp4": b"yes"})
    frames = {f"tvqa/frames_fps3_hq/friends_s03/0000{n}.jpg": b"%d" % n for n in (1, 2)}
    write_zip(tmp_path / "video/tvqa.zip", frames)
    episode, shuffle = BENCHMARK.read(tmp_path)
    with unpacked(shuffle.video) as video:
        assert video.read_bytes() == b"yes"
    assert not video.exists()
    with unpacked(episode.video) as folder:
        assert sorted(path.read_bytes() for path in folder.iterdir()) == [b"1", b"2"]

import pytest
from tasks.video.written import touch, write_json, write_text, write_zip

from transfer.errors import UserError
from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video.archives import unpacked
from transfer.tasks.video_records import VIDEO, BrokenRecord, Subtitle

BENCHMARK = VIDEO_TASKS["video-mme"]
SPOKEN = VIDEO_TASKS["video-mme-subtitles"]
RECORD = {
    "video_id": "001",
    "duration": "short",
    "domain": "Knowledge",
    "sub_category": "Humanity & History",
    "videoID": "fFjv93ACGo8",
    "question_id": "001-1",
    "task_type": "Counting Problem",
    "question": "How many apples are there?",
    "options": ["A. Two.", "B. Three.", "C. A. lot.", "D. None."],
    "answer": "C",
}
SRT = (
    "1", "00:00:00,500 --> 00:00:02,000", '<font color="white" size=".72c">Hello</font>',
    "there", "", "2", "00:00:02,000 --> 00:00:03,250", "Not shown", "", "3",
    "01:00:04.000 --> 01:00:06.000", "<i>Much</i> later", "",
)  # fmt: skip


def write(folder, *records):
    write_json(folder / "test.json", list(records or (RECORD,)))
    return folder


def test_record(tmp_path):
    touch(tmp_path / "data/fFjv93ACGo8.mkv")
    [question] = BENCHMARK.read(write(tmp_path))
    assert question.id == "001-1"
    assert question.video == tmp_path / "data/fFjv93ACGo8.mkv"
    assert question.options == ("Two.", "Three.", "A. lot.", "None.")
    assert (question.answer, question.category, question.duration_group) == (
        2, "Counting Problem", "short",
    )  # fmt: skip
    assert BENCHMARK.groupings == ("duration_group", "category")


def test_prompt_without_subtitles(tmp_path):
    [question] = BENCHMARK.read(write(tmp_path))
    assert BENCHMARK.prompt(question, (0.0,)).parts == (
        VIDEO,
        "\nSelect the best answer to the following multiple-choice question based on the video."
        " Respond with only the letter (A, B, C, or D) of the correct option.\n"
        "How many apples are there?\nA. Two.\nB. Three.\nC. A. lot.\nD. None.\n"
        "The best answer is:",
    )


def test_prompt_with_what_is_said_at_the_frames(tmp_path):
    write_text(tmp_path / "subtitle/fFjv93ACGo8.srt", *SRT)
    [question] = SPOKEN.read(write(tmp_path))
    assert question.subtitles == (
        Subtitle(0.5, 2.0, "Hello there"),
        Subtitle(2.0, 3.25, "Not shown"),
        Subtitle(3604.0, 3606.0, "Much later"),
    )
    text = SPOKEN.prompt(question, (0.0, 1.0, 1.9, 3605.0)).parts[1]
    assert text.startswith(
        "\nThis video's subtitles are listed below:\nHello there\nMuch later\n"
        "Select the best answer to the following multiple-choice question based on the video and"
        " the subtitles. Respond"
    )
    assert "below:\nNo subtitles available\nSelect" in SPOKEN.prompt(question, (0.0,)).parts[1]


def test_videos_without_subtitles(tmp_path):
    (tmp_path / "subtitle").mkdir()
    [question] = SPOKEN.read(write(tmp_path))
    assert question.subtitles == ()
    (tmp_path / "subtitle").rmdir()
    [broken] = SPOKEN.read(tmp_path)
    assert isinstance(broken, BrokenRecord)
    assert broken.reason.startswith("record 001-1 has no subtitles, as there is no folder")


def test_unreadable_subtitles(tmp_path):
    path = write_text(tmp_path / "subtitle/fFjv93ACGo8.srt")
    path.write_bytes(b"\xff\xfe\x00")
    [broken] = SPOKEN.read(write(tmp_path))
    assert isinstance(broken, BrokenRecord)
    assert broken.reason.startswith("record 001-1: cannot read the subtitles")


def test_one_entry_a_video(tmp_path):
    own = ("question_id", "task_type", "question", "options", "answer")
    entry = {name: value for name, value in RECORD.items() if name not in own}
    first = {name: RECORD[name] for name in own}
    second = {**first, "question_id": "001-2", "answer": "D"}
    questions = BENCHMARK.read(write(tmp_path, {**entry, "questions": [first, second, 3]}))
    assert [one.id for one in questions] == ["001-1", "001-2", "test-2"]
    assert [one.answer for one in questions[:2]] == [2, 3]
    assert questions[1].duration_group == "short"
    assert questions[2] == BrokenRecord(
        "test-2", "record test-2 is no JSON object; mend or delete it"
    )


@pytest.mark.parametrize("answer", ["none", "E!", "I", 3])
def test_answer_that_is_no_letter(tmp_path, answer):
    [broken] = BENCHMARK.read(write(tmp_path, {**RECORD, "answer": answer}))
    assert broken.reason == (f"record 001-1 has 'answer' {answer!r}; give the letter of an option")


def test_letter_beyond_the_options(tmp_path):
    [broken] = BENCHMARK.read(write(tmp_path, {**RECORD, "answer": "E"}))
    assert "has 4 options and its answer is option 4" in broken.reason


@pytest.mark.parametrize(
    "folder", ["short", "data/short", "video/Knowledge", "videos_chunked_01/data", "a/b/c/d"]
)
def test_videos_in_folders_of_their_own(tmp_path, folder):
    write_json(tmp_path / "videomme/test.json", [RECORD])
    (tmp_path / "data").mkdir(exist_ok=True)
    path = touch(tmp_path / folder / "fFjv93ACGo8.mp4")
    assert BENCHMARK.read(tmp_path / "videomme/test.json")[0].video == (
        tmp_path / "data/fFjv93ACGo8.mp4"
    )
    (tmp_path / "videomme/test.json").rename(tmp_path / "test.json")
    assert BENCHMARK.read(tmp_path)[0].video == path


def test_of_two_videos_of_one_name_none_is_taken(tmp_path):
    for folder in ("short", "long"):
        touch(tmp_path / folder / "fFjv93ACGo8.mp4")
    assert BENCHMARK.read(write(tmp_path))[0].video == tmp_path / "data/fFjv93ACGo8.mp4"


def test_videos_and_subtitles_in_the_zips_of_the_download(tmp_path):
    write(tmp_path)
    write_zip(tmp_path / "videos_chunked_01.zip", {"data/other.mp4": b""})
    write_zip(tmp_path / "videos_chunked_02.zip", {"data/fFjv93ACGo8.mp4": b"frames"})
    archive = tmp_path / "subtitle.zip"
    write_zip(archive, {"subtitle/fFjv93ACGo8.srt": "\n".join(SRT).encode()})
    [question] = SPOKEN.read(tmp_path)
    assert question.video == tmp_path / "videos_chunked_02.zip/data/fFjv93ACGo8.mp4"
    assert question.subtitles[0] == Subtitle(0.5, 2.0, "Hello there")
    with unpacked(question.video) as video:
        assert (video.name, video.read_bytes()) == ("fFjv93ACGo8.mp4", b"frames")
    # This video has none.
    write_zip(archive, {"subtitle/other.srt": b""})
    assert SPOKEN.read(tmp_path)[0].subtitles == ()


def test_a_zip_that_is_none(tmp_path):
    write_text(tmp_path / "videos_chunked_01.zip", "half a download")
    [broken] = BENCHMARK.read(write(tmp_path))
    assert broken.reason.startswith("record 001-1: cannot unpack ")
    assert "videos_chunked_01.zip (File is not a zip file); download it again" in broken.reason


def test_members_that_would_lie_elsewhere_are_not_found(tmp_path):
    write_zip(tmp_path / "videos_chunked_01.zip", {"../data/fFjv93ACGo8.mp4": b"x"})
    assert BENCHMARK.read(write(tmp_path))[0].video == tmp_path / "data/fFjv93ACGo8.mp4"


def test_a_zip_that_is_damaged_where_the_video_is(tmp_path):
    path = write_zip(tmp_path / "videos_chunked_01.zip", {"data/fFjv93ACGo8.mp4": b"x" * 99})
    [question] = BENCHMARK.read(write(tmp_path))
    path.write_bytes(path.read_bytes().replace(b"x" * 99, b"y" * 99))
    with pytest.raises(UserError, match="Bad CRC-32"), unpacked(question.video):
        pass

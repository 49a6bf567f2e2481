import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from transfer.errors import UserError
from transfer.tasks import video_drawing
from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video_drawing import (
    CELL,
    CODECS,
    COLORS,
    RATE,
    SHAPES,
    SIDE,
    Flash,
    decode,
    draw,
    encode,
)
from transfer.tasks.video_recall import (
    FRAMES,
    KINDS,
    NUMBERS,
    WORDS,
    RecallQuestion,
    VideoRecall,
    all_questions,
    default_folder,
    make_flashes,
    make_video,
    most_flashes,
    one_of_each,
)
from transfer.tasks.video_records import VIDEO
from transfer.video.frames import read_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


def flashes_of(seed, frames=FRAMES):
    return make_flashes(frames, np.random.default_rng(seed))


def seen(picture):
    """The colour of what is brighter than grey shapes are, and the mean place of its pixels."""
    bright = picture.max(-1) > 150
    if bright.sum() < 12:
        return {}
    color = np.median(picture[bright], axis=0)
    name = min(COLORS, key=lambda name: np.abs(color - COLORS[name]).sum())
    return {name: np.argwhere(bright).mean(0) + 0.5}


@pytest.mark.parametrize(("frames", "most"), [(5, 2), (8, 3), (16, 5), (32, 8), (64, 8)])
def test_flashes_keep_the_rules(frames, most):
    counts = Counter()
    for seed in range(200):
        flashes = flashes_of(seed, frames)
        counts[len(flashes)] += 1
        assert len({flash.color for flash in flashes}) == len(flashes)
        assert all(len(flash.frames) in (1, 2) for flash in flashes)
        assert flashes[0].start >= 0 and flashes[-1].frames[-1] < frames
        for one, later in itertools.pairwise(flashes):
            assert later.start > one.frames[-1] + 1
    assert most_flashes(frames) == most and set(counts) == set(range(2, most + 1))


@pytest.fixture
def still(monkeypatch):
    """No noise and no shaking, so that only flashes differ."""
    monkeypatch.setattr(video_drawing, "_filmed", lambda video, rng: video)


@pytest.mark.usefixtures("still")
def test_a_flash_is_seen_in_its_cell_and_its_frames_alone():
    for seed in range(10):
        for flash in flashes_of(seed):
            with_it = draw([flash], FRAMES, np.random.default_rng(seed))
            without = draw([], FRAMES, np.random.default_rng(seed))
            changed = (with_it != without).any(-1)
            frames, rows, columns = np.nonzero(changed)
            assert set(frames.tolist()) == set(flash.frames)
            cells = rows // CELL * (SIDE // CELL) + columns // CELL
            assert set(cells.tolist()) == {flash.cell}
            [shown] = np.unique(with_it[changed], axis=0)
            assert np.abs(shown - 0.95 * np.array(COLORS[flash.color])).max() <= 26


@pytest.mark.usefixtures("still")
def test_grey_shapes_move_in_all_frames():
    video = draw([], FRAMES, np.random.default_rng(3)).astype(int)
    assert (video.max(-1) == video.min(-1)).all() and video.max() <= 135
    assert ((np.diff(video, axis=0) != 0).any(-1).sum((1, 2)) > 5).all()


def test_cameras_shake_by_a_pixel_and_have_noise():
    plain = np.zeros((40, SIDE, SIDE, 3), np.uint8)
    plain[:, 20:30, 20:30] = 200
    places, noises = set(), []
    for seed in range(40):
        filmed = video_drawing._filmed(plain, np.random.default_rng(seed)).astype(int)
        bright = [np.argwhere(one.max(-1) > 120).min(0) - 20 for one in filmed]
        places.add(len({tuple(place) for place in bright}))
        assert np.abs(bright).max() <= 1
        noises.append(filmed[:, 5:15, 5:15].std())
    assert {1, 9} <= places <= {1, 8, 9} and min(noises) < 1 < max(noises) < 4


@pytest.mark.usefixtures("still")
def test_shapes_differ():
    pictures = [
        draw([Flash("red", shape, 24.0, 24.0, 0, 1)], 1, np.random.default_rng(0))
        for shape in SHAPES
    ]
    red = [picture[0, ..., 0] > 180 for picture in pictures]
    square, ring, cross = red
    assert square[24, 24] and cross[24, 24] and not ring[24, 24]
    assert square[20, 20] and not cross[20, 20]
    assert all(mask.sum() > 40 for mask in red)


def test_an_event_is_in_few_of_the_tokens():
    """Of 512 tokens (16 a frame), one or two for each of two to eight flashes."""
    shares = [sum(flash.length for flash in flashes_of(seed)) / 512 for seed in range(300)]
    assert max(shares) <= 16 / 512
    assert np.mean(shares) == pytest.approx(7.5 / 512, abs=0.001)


def test_videos_depend_on_the_seed_alone():
    (flashes, pictures), (again, same) = make_video(4), make_video(4)
    assert flashes == again and encode(pictures) == encode(same)
    assert not np.array_equal(make_video(5)[1], pictures)


def test_files_are_real_videos(folder):
    [question] = VideoRecall(videos=1).read(folder, 1)
    clip = read_clip(question.video, FRAMES)
    assert clip.indices == tuple(range(FRAMES))
    assert clip.seconds[-1] == pytest.approx((FRAMES - 1) / RATE)
    assert clip.pixels.shape == (FRAMES, SIDE, SIDE, 3)
    drawn = make_video(0)[1]
    assert np.abs(clip.pixels.astype(int) - drawn).mean() < 4
    np.testing.assert_allclose(clip.pixels, decode(question.video), atol=3)
    assert not clip.notes


def test_answers_are_what_the_files_show(folder):
    for question in VideoRecall(videos=12).read(folder):
        frames = [seen(picture) for picture in decode(question.video)]
        order = list(dict.fromkeys(color for places in frames for color in places))
        where = {color: place for places in frames for color, place in places.items()}
        words, right = question.question.split(), question.options[question.answer]
        named = [word for word in words if word in COLORS]
        if question.category in ("before", "after"):
            step = 1 if question.category == "after" else -1
            assert right == order[order.index(named[0]) + step]
        elif question.category == "side":
            assert right == ("left" if where[named[0]][1] < SIDE / 2 else "right")
        elif question.category == "exist" and named[0] not in order:
            assert right == "no"
        else:
            expected = {"first": order[0], "last": order[-1], "count": NUMBERS[len(order) - 2]}
            assert right == expected.get(question.category, right)


def test_answers_about_shapes():
    flashes = [Flash("red", "ring", 8.0, 8.0, 0, 1), Flash("cyan", "cross", 40.0, 8.0, 3, 2)]
    asked = {one.text: one.answer for one in all_questions(flashes, np.random.default_rng(0))}
    assert asked["what shape was the red one ?"] == "ring"
    assert asked["what shape was the cyan one ?"] == "cross"
    assert asked["on which side was the red one ?"] == "left"
    assert asked["on which side was the cyan one ?"] == "right"
    assert asked["did a red ring appear ?"] == "yes"
    assert len(asked) == 13
    for text, answer in asked.items():
        if text.startswith("did"):
            shown = [f"did a {flash.color} {flash.shape} appear ?" for flash in flashes]
            assert (answer == "yes") == (text in shown)


@pytest.mark.parametrize("seed", range(20))
def test_the_flash_that_tells_shows_the_answer(seed):
    flashes = flashes_of(seed)
    for one in all_questions(flashes, np.random.default_rng(seed)):
        asked = [word for word in one.text.split() if word in COLORS]
        if one.flash is None:
            assert one.answer == "no" and asked[0] not in {flash.color for flash in flashes}
            continue
        flash = flashes[one.flash]
        shown = (flash.color, flash.shape, "left" if flash.x < SIDE / 2 else "right")
        if one.kind in ("last", "count"):
            assert flash is flashes[-1]
        if one.kind in ("shape", "side", "exist", "before"):
            assert flash.color == asked[0]
        if one.kind in ("first", "last", "after", "shape", "side"):
            assert one.answer in shown


def test_half_of_the_shapes_asked_about_appeared():
    answers, colors = Counter(), Counter()
    for seed in range(400):
        flashes, rng = flashes_of(seed), np.random.default_rng(seed)
        [asked] = [one for one in one_of_each(flashes, rng) if one.kind == "exist"]
        answers[asked.answer] += 1
        if asked.answer == "no":
            colors[asked.text.split()[2] in {flash.color for flash in flashes}] += 1
    assert answers["yes"] == pytest.approx(200, abs=30)
    assert min(colors.values()) > 0.35 * answers["no"]


def test_every_kind_is_asked_before_half_and_after_half_of_the_videos(folder):
    questions = VideoRecall(videos=20).read(folder)
    assert len(questions) == 20 * len(KINDS) == len({one.id for one in questions})
    asked = Counter((one.category, one.asked) for one in questions)
    assert asked == {(kind, asked): 10 for kind in KINDS for asked in ("before", "after")}
    for one in questions:
        assert one.duration == 8.0 and one.video.exists()
        assert {*one.question.split(), *one.options} <= set(WORDS)


@pytest.mark.parametrize("how", CODECS)
def test_a_file_of_every_codec_is_the_same_every_time_and_shows_the_same(how):
    pictures = make_video(3, 8)[1]
    assert encode(pictures, how) == encode(pictures, how)
    assert np.abs(decode(encode(pictures, how)).astype(int) - pictures).mean() < 6


def test_letters_stand_for_some_of_the_options(folder):
    words, task = VideoRecall(videos=12).read(folder), VIDEO_TASKS["video-recall-letters"]
    lettered = replace(task, videos=12).read(folder)
    counts, places = Counter(), Counter()
    for one, whole in zip(lettered, words, strict=True):
        assert (one.id, one.question, one.asked) == (whole.id, whole.question, whole.asked)
        assert one.options[one.answer] == whole.options[whole.answer]
        assert set(one.options) <= set(whole.options)
        counts[len(one.options)] += 1
        places[one.answer] += 1
        prompt = task.prompt(one, ())
        assert prompt.answers == tuple("ABCDE")[: len(one.options)]
        assert prompt.parts.index(VIDEO) == (one.asked == "before")
        text = "".join(prompt.parts)
        assert all(f"{x}. {option}" in text for x, option in zip("ABCDE", one.options))
        assert task.parse(f"{prompt.answers[one.answer]}.", one) == one.answer
        assert task.parse("none", one) is None
    assert set(counts) == {2, 3, 4, 5} and set(places) == {0, 1, 2, 3, 4}


def test_in_long_videos_everything_is_at_the_beginning(folder):
    task = replace(VIDEO_TASKS["video-recall-long"], videos=1)
    [question, *_] = task.read(folder)
    assert question.duration == 128 / RATE
    frames = decode(question.video)
    shown = [number for number, picture in enumerate(frames) if seen(picture)]
    assert len(frames) == 128 and 0 < max(shown) < 32
    assert question.video.name == "000000-128-0.25.mp4"


def test_fewer_questions_are_the_first_ones(folder):
    every = VideoRecall(videos=4).read(folder)
    assert VideoRecall(videos=4).read(folder, 11) == every[:11]
    assert VideoRecall(videos=2, first=2).read(folder) == every[2 * len(KINDS) :]


def test_files_are_made_once_and_where_they_are_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    questions = VideoRecall(videos=3).read(None, len(KINDS) + 1)
    made = sorted(default_folder().iterdir())
    assert default_folder() == tmp_path / "transfer" / "video-recall" / "2"
    assert [path.name for path in made] == ["000000.mp4", "000001.mp4"]
    assert {one.video for one in questions} == set(made)
    made[0].write_bytes(b"kept")
    VideoRecall(videos=3).read()
    assert made[0].read_bytes() == b"kept"
    assert len(list(default_folder().iterdir())) == 3


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        VideoRecall(videos=1).read(tmp_path / "file")


def test_prompts_put_the_question_on_its_side_of_the_video(folder):
    task = VideoRecall(videos=1)
    for question in task.read(folder):
        prompt = task.prompt(question, ())
        assert prompt.answers == question.options
        ahead = prompt.parts.index(VIDEO) == 1
        assert ahead == (question.asked == "before")
        assert "".join(prompt.parts).replace(VIDEO, "").strip() == question.question


@pytest.mark.parametrize(
    ("reply", "option"),
    [("green", 1), ("Green.", 1), ("the red one , not green", 0), ("", None), ("pink", None)],
)
def test_parse(tmp_path, reply, option):
    question = RecallQuestion("id", tmp_path, "which ?", ("red", "green"), 0)
    assert VideoRecall().parse(reply, question) == option


def test_the_default_has_over_six_hundred_questions_near_chance_for_a_constant_answer():
    answers = {kind: Counter() for kind in KINDS}
    for seed in range(VideoRecall().videos):
        for one in one_of_each(flashes_of(seed), np.random.default_rng((seed, 1))):
            answers[one.kind][one.answer] += 1
    assert VideoRecall().videos * len(KINDS) >= 600
    chance = {"exist": 1 / 2, "side": 1 / 2, "shape": 1 / 3}
    for kind, found in answers.items():
        assert max(found.values()) / found.total() < chance.get(kind, 1 / 7) + 0.15

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import UserError
from transfer.video.sampling import SAMPLINGS, check_sampling, pick

TEN = [i / 10 for i in range(10)]


@pytest.mark.parametrize(
    ("sampling", "total", "frames", "indices"),
    [
        ("uniform", 50, 8, [0, 7, 14, 21, 28, 35, 42, 49]),
        ("uniform", 10, 4, [0, 3, 6, 9]),
        ("uniform", 10, 1, [0]),
        ("midpoint", 10, 2, [2, 7]),
        ("midpoint", 7, 7, [0, 1, 2, 3, 4, 5, 6]),
        ("midpoint", 9, 1, [4]),
        # int(50 / 8) = 6: the last frames are never reached
        ("segment", 50, 8, [0, 6, 12, 18, 24, 30, 36, 42]),
    ],
)
def test_which_frames(sampling, total, frames, indices):
    assert SAMPLINGS[sampling](total, frames) == indices


@given(st.sampled_from(sorted(SAMPLINGS)), st.integers(1, 300), st.data())
def test_frames_differ_and_are_in_order(sampling, total, data):
    frames = data.draw(st.integers(1, total))
    indices = SAMPLINGS[sampling](total, frames)
    assert len(indices) == frames
    assert indices == sorted(set(indices))
    assert 0 <= indices[0] <= indices[-1] < total


def test_fps_takes_what_is_on_display():
    assert pick(TEN, None, "fps", 5) == [0, 2, 4, 6, 8]
    # Between two frames, the earlier one is on display.
    assert pick([0.0, 0.3, 0.6, 2.0, 2.1], None, "fps", 1) == [0, 2, 3]
    # Faster than the video: every frame once.
    assert pick(TEN, None, "fps", 100) == list(range(10))


def test_fps_is_bounded_by_the_number_of_frames():
    assert pick(TEN, 3, "fps", 5) == [0, 4, 8]
    assert pick(TEN, 20, "fps", 5) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ((8, "unifrom", None), "unknown sampling 'unifrom'; did you mean uniform?"),
        ((None, "uniform", None), "needs a number of frames"),
        ((0, "uniform", None), "frames is 0; it must be at least 1"),
        ((8, "uniform", 1.0), "give fps with sampling fps, only then"),
        ((8, "fps", None), "give fps with sampling fps, only then"),
        ((8, "fps", 0.0), "fps is 0.0; it must be positive"),
    ],
)
def test_what_no_video_could_satisfy(arguments, cause):
    with pytest.raises(UserError) as error:
        check_sampling(*arguments)
    assert cause in str(error.value)

from pathlib import Path

import pytest

from transfer.errors import UserError
from transfer.tasks.video_prompts import VideoTask, lettered, letters, parse_letter
from transfer.tasks.video_records import FRAME, LETTERS, NONE_RIGHT, VIDEO, Prompt, VideoQuestion

OPTIONS = ("a dog", "cat.", "The cow", "none")


def ask(**changes):
    return VideoQuestion(
        **{
            "id": "q7",
            "video": Path("v.mp4"),
            "question": "What?",
            "options": OPTIONS,
            "answer": 3,
            **changes,
        }
    )


class Plain(VideoTask):
    def read(self, data, questions=None):
        return []

    def prompt(self, question, clip_seconds):
        return Prompt((VIDEO,), letters(question.options))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"options": ("a",)}, "record q7 has 1 options; give 2 to 8"),
        ({"options": ()}, "record q7 has 0 options"),
        ({"options": tuple("abcdefghi"), "answer": 0}, "record q7 has 9 options"),
        ({"answer": 4}, r"record q7 has 4 options and its answer is option 4; count from 0 to 3"),
        ({"answer": -1}, "its answer is option -1"),
        ({"question": " "}, "record q7 asks nothing"),
        ({"start": 3.0, "end": 3.0}, r"record q7 is about seconds 3.0 to 3.0"),
        ({"end": 0.0}, "seconds None to 0.0"),
        ({"start": -1.0}, "seconds -1.0 to None"),
    ],
)
def test_impossible_questions(changes, said):
    with pytest.raises(UserError, match=said):
        ask(**changes)


def test_possible_questions():
    assert ask(answer=None).answer is None
    assert ask(options=tuple(LETTERS), answer=7).answer == 7
    assert ask(start=2.0, end=2.5).end == 2.5


def test_as_published_what_ones_own_may_not_be():
    blank = ask(options=("",), answer=0, question="", as_published=True)
    assert (blank.options, blank.answer) == (("",), 0)
    assert ask(answer=NONE_RIGHT, as_published=True).answer == NONE_RIGHT
    with pytest.raises(UserError, match="record q7 has 0 options; give 1 to 8"):
        ask(options=(), answer=None, as_published=True)
    with pytest.raises(UserError, match="its answer is option -2"):
        ask(answer=-2, as_published=True)


def test_prompt_parts():
    Prompt((FRAME, "text", FRAME), ("A", "B"))
    Prompt(("no video at all",), ("A", "B"))
    with pytest.raises(UserError, match="use <video> once, or <frame> for each frame"):
        Prompt((VIDEO, VIDEO), ("A", "B"))
    with pytest.raises(UserError, match="use <video> once"):
        Prompt((VIDEO, FRAME), ("A", "B"))
    with pytest.raises(UserError, match="give each a text"):
        Prompt((VIDEO,), ("A", ""))


def test_letters():
    assert lettered(("x", "y")) == "A. x\nB. y"
    assert lettered(("x", "y"), "({letter}) {option}") == "(A) x\n(B) y"
    assert letters(OPTIONS) == ("A", "B", "C", "D")


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        ("B", 1), ("(C)", 2), ("D.", 3), (" a ", 0), ("b)", 1), ("A", 0), ("A: a dog", 0),
        ("Answer: B", 1), ("The best answer is C.", 2), ("the correct option is (D)", 3),
        ("Best option: B", 1), ("**Answer:** C", 2), ("It is B) the cat", 1), ("C\nBecause B", 2),
        ("The answer is the cow.", 2), ("THE COW", 2), ("cat", 1), ("The answer is A", 0),
        ("D, because a dog", 3), ("B's", None), ("ABC", None), ("Dogs", None), ("", None),
        ("  \n", None), ("A man walks", None), ("E", None), ("The answer is E, not A", None),
        ("?", None), ("the video shows a b", None), ("I think so", None),
    ],
)  # fmt: skip
def test_replies(reply, option):
    assert parse_letter(reply, OPTIONS) == option


def test_every_letter_is_read_where_it_is_an_option():
    words = tuple(f"option number {place}" for place in range(8))
    assert [parse_letter(f"({letter}", words) for letter in LETTERS] == list(range(8))
    assert [parse_letter(letter, words[:2]) for letter in LETTERS] == [0, 1] + [None] * 6


def test_defaults_of_a_benchmark():
    plain = Plain("x")
    assert plain.parse("(D)", ask()) == 3
    assert plain.frames_of(ask(duration=3.0), 16) == 16

"""Every public function, every argument, every wrong type: one sentence at the call."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from transfer.arguments import fitted
from transfer.errors import UserError

HERE = Path(__file__).parent


def test_wrong_types_are_refused_at_the_call():
    # In a process of its own: the type checker that tests install would answer first.
    command = [sys.executable, "-W", "ignore", str(HERE / "wrong_arguments.py")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    assert found["faults"] == []
    assert found["functions"] > 40
    # The rest is right for its argument, as None where a function takes it.
    assert found["refused"] > 2000 and found["refused"] / found["tried"] > 0.8


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (np.int64(3), int, 3),
        (np.float32(0.5), int | float, 0.5),
        (np.bool_(True), bool, True),
        (1.0, int | float | None, 1.0),
        (None, str | None, None),
        ("here", Path, Path("here")),
        (["a"], tuple[str, ...], ("a",)),
        ([1, 2], tuple[int, int], (1, 2)),
        (np.arange(3), Sequence[int], [0, 1, 2]),
        (range(3), Sequence[int], range(3)),
        ("b", Literal["a", "b"] | None, "b"),
    ],
)
def test_what_fits_arrives_as_it_is_asked_for(value, kind, expected):
    found = fitted("it", value, kind)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "sentence"),
    [
        ("16", int | None, "it is '16' (a str); use a whole number or None"),
        (True, int | float, "it is True (a bool); use a number"),
        (16.0, int, "it is 16.0 (a float); use a whole number"),
        ("abc", Sequence[str], "it is 'abc' (a str); use a tuple or list (each a text)"),
        ((1,), tuple[int, int], "it is (1,) (a tuple); use a tuple of 2 (a whole number, a whole"),
        (1, Literal[True, "a"], "it is 1 (an int); use True or 'a'"),
        (None, Path, "it is None; use a path"),
        ("", Path, "it is '' (a str); use a path"),
        (int, UserError, "it is <class 'int'>; use an UserError"),
    ],
)
def test_what_does_not_is_one_sentence(value, kind: Any, sentence):
    with pytest.raises(UserError) as caught:
        fitted("it", value, kind)
    assert str(caught.value).startswith(sentence)


def test_what_holds_the_right_thing_says_where():
    class Held:
        it = Path("here")

    with pytest.raises(UserError, match=r"use its \.it or a path$"):
        fitted("it", Held(), Path)

"""InfiniteBench's generated records: published parameters, at any size, from a seed.

A record depends on its size, its seed and where its answer stands, and on nothing else.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

Fields = dict[str, Any]

#: Of the authors' records, in tokens; there, texts have the size that they published.
PUBLISHED_LENGTH = 131_072
NOISE = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
)
#: Evenly spaced, from the first to the last line of noise.
PLACES = 59
CALLS = (2, 4, 6, 8, 10)
LARGEST = 99
ASKED = (
    "largest number",
    "second largest number",
    "third largest number",
    "smallest number",
    "second smallest number",
    "third smallest number",
    "median",
)


@dataclass(frozen=True)
class Recipe:
    """How records of a task are made.

    Attributes:
        make: from a size, a seed and a depth (None: by the seed), a record's fields as published.
        published: the authors' size: lines of noise, pairs, numbers, terms or functions.
        least: the smallest that makes sense.
        deep: whether the answer stands at a depth.
    """

    make: Callable[[int, int, float | None], Fields]
    published: int
    least: int
    deep: bool = False


def _passkey(size: int, seed: int, depth: float | None) -> Fields:
    rng = np.random.default_rng(seed)
    place = _place(rng, size, depth)
    key = _digits(rng, 5)
    said = f"The pass key is {key}. Remember it. {key} is the pass key.\n"
    return _fields(_hidden(said, size, place), "What is the pass key?", key)


def _number_string(size: int, seed: int, depth: float | None) -> Fields:
    """The key is five digits, and five times a copy of one, beside it."""
    rng = np.random.default_rng(seed)
    place = _place(rng, size, depth)
    digits = list(_digits(rng, 5))
    while len(digits) < 10:
        at = int(rng.integers(len(digits)))
        digits.insert(at, digits[at])
    key = "".join(digits)
    said = f"The sequence of digits is {key}. Remember it. {key} is the sequence of digits.\n"
    return _fields(_hidden(said, size, place), "What is the sequence of digits?", key)


def _kv_retrieval(size: int, seed: int, depth: float | None) -> Fields:
    rng = np.random.default_rng(seed)
    share = rng.random() if depth is None else depth
    names = [str(UUID(bytes=rng.bytes(16), version=4)) for _ in range(2 * size)]
    pairs = dict(zip(names[::2], names[1::2]))
    key = names[::2][min(int(share * size), size - 1)]
    asked = f'\nKey: "{key}"\nThe value associated with the specified key is: '
    return _fields(f"JSON data:\n{json.dumps(pairs)}", asked, pairs[key])


def _math_find(size: int, seed: int, depth: float | None) -> Fields:
    rng = np.random.default_rng(seed)
    asked = ASKED[seed % len(ASKED)]
    low, high = 0, LARGEST
    if "largest" in asked or (asked == "median" and rng.random() < 0.5):
        high = int(rng.integers(LARGEST * 8 // 10, LARGEST + 1))
    else:
        low = int(rng.integers(LARGEST * 2 // 10 + 1))
    numbers = rng.integers(low, high + 1, size).tolist()
    if asked == "median":
        answer = float(np.median(numbers))
    else:
        place = ("second" in asked) + 2 * ("third" in asked)
        answer = sorted(set(numbers), reverse="largest" in asked)[place]
    question = (
        "You should answer with only one number, no other words. "
        f"The {asked if asked != 'median' else 'median number'} of the list is: "
    )
    return _fields(str(numbers), question, answer)


def _math_calc(size: int, seed: int, depth: float | None) -> Fields:
    """No value within is below 0 or above the largest number."""
    # Of a stream each, for a longer calculation to go on from a shorter one.
    terms, signs, again = np.random.default_rng(seed).spawn(3)
    first, *changes = terms.integers(LARGEST + 1, size=size).tolist()
    value, said, values = first, [str(first)], []
    for change, plus in zip(changes, signs.random(size - 1) > 0.5):
        room = LARGEST - value if plus else value
        change = change if change <= room else int(again.integers(room + 1))
        value += change if plus else -change
        said.append(f"{'+' if plus else '-'} {change}")
        values.append(value)
    return _fields(" ".join(said), "The value of the numerical expression is: ", values)


def _code_run(size: int, seed: int, depth: float | None) -> Fields:
    """Functions in as many ranks as there are calls; each calls one of the next rank."""
    rng = np.random.default_rng(seed)
    calls = CALLS[seed % len(CALLS)]
    rank = size // calls
    names = (rng.permutation(2 * size)[: calls * rank] + 1).reshape(calls, rank)
    called = [*(rng.choice(after, rank) for after in names[1:]), np.zeros(rank, int)]
    added = rng.integers(-12, 18, calls * rank)
    code = dict(zip(names.ravel().tolist(), np.stack([np.hstack(called), added], 1).tolist()))
    begin, x = int(rng.choice(names[0])), int(rng.integers(-10, 11))
    function, answer = begin, x
    while function:
        function, plus = code[function]
        answer += plus
    text = "".join(_function(name, *code[name]) for name in sorted(code))
    asked = (
        f"Please give me the exact number of the return value of func_{begin}({x}). Your response"
        " should end with the sentence 'The return value is:'."
    )
    return _fields(f"\nHere is the content of functions_module.py:\n\n{text}", asked, answer)


def _fields(context: str, asked: str, answer: str | int | float | list[int]) -> Fields:
    return {"context": context, "input": asked, "answer": answer}


def _function(name: int, called: int, added: int) -> str:
    value = f"func_{called}(x)" if called else "x"
    change = f" {'-' if added < 0 else '+'} {abs(added)}" if added else ""
    return f"def func_{name}(x):\n    return {value}{change}\n\n"


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(map(str, rng.integers(10, size=count)))


def _place(rng: np.random.Generator, lines: int, depth: float | None) -> int:
    share = rng.integers(PLACES) / (PLACES - 1) if depth is None else depth
    return round(share * lines)


def _hidden(said: str, lines: int, place: int) -> str:
    return NOISE * place + said + NOISE * (lines - place)


RECIPES = {
    "passkey": Recipe(_passkey, published=5220, least=1, deep=True),
    "number_string": Recipe(_number_string, published=5220, least=1, deep=True),
    "kv_retrieval": Recipe(_kv_retrieval, published=2500, least=2, deep=True),
    "math_find": Recipe(_math_find, published=60_000, least=10),
    "math_calc": Recipe(_math_calc, published=30_000, least=2),
    "code_run": Recipe(_code_run, published=550, least=2 * max(CALLS)),
}

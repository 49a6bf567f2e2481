"""An independent reader of symbol documents: what they state, place by place, and what is asked.

It is written from the description of the language, not from the code that makes documents.
"""

from dataclasses import dataclass, field

BOS, FACT, ASK, DOT, PASS = 1, 2, 3, 4, 5
DIGITS, KEYS, VALUES, NOISE = range(6, 16), range(16, 48), range(48, 80), range(80, 128)


@dataclass
class Reading:
    """Statements `(place, key, value)`, decoys likewise, the pass key, and questions."""

    facts: list[tuple[int, int, int]] = field(default_factory=list)
    decoys: list[tuple[int, int, int]] = field(default_factory=list)
    passkeys: list[tuple[int, list[int]]] = field(default_factory=list)
    questions: list[tuple[int, int, list[int]]] = field(default_factory=list)
    distractors: list[list[int]] = field(default_factory=list)


def read(ids: list[int]) -> Reading:
    assert ids[0] == BOS
    reading, start = Reading(), 1
    while start < len(ids):
        end = ids.index(DOT, start)
        sentence = ids[start:end]
        _understand(reading, start, sentence)
        start = end + 1
    return reading


def _understand(reading: Reading, place: int, sentence: list[int]) -> None:
    match sentence:
        case [2, key, value]:
            assert key in KEYS and value in VALUES
            reading.facts.append((place, key, value))
        case [3, 5, *digits] | [5, *digits] if sentence[0] in (ASK, PASS):
            assert all(digit in DIGITS for digit in digits)
            if sentence[0] == PASS:
                reading.passkeys.append((place, digits))
            else:
                reading.questions.append((place, PASS, digits))
        case [3, key, value]:
            assert key in KEYS and value in VALUES
            reading.questions.append((place, key, [value]))
        case [first, key, value, *rest] if key in KEYS:
            assert value in VALUES and all(word in NOISE for word in (first, *rest))
            reading.decoys.append((place + 1, key, value))
        case _:
            assert all(word in NOISE for word in sentence)
            reading.distractors.append(sentence)


def right_answer(reading: Reading, place: int, key: int) -> list[int]:
    """What is to be answered at a place: the last statement before it."""
    if key == PASS:
        return [digits for at, digits in reading.passkeys if at < place][-1]
    return [[value] for at, stated, value in reading.facts if stated == key and at < place][-1]

"""How facts, questions and distractors are said in English."""

from collections.abc import Sequence


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


KEY_WORDS = _words(
    "anchor basket bottle bridge button candle carpet castle clock cradle desk drum engine fence"
    " flute garden hammer helmet island kettle ladder lamp mirror needle oven piano pillow rocket"
    " saddle tower violin wagon"
)
VALUE_WORDS = _words(
    "amber beige black blue bronze brown copper coral cream crimson gold gray green indigo ivory"
    " jade lilac lime maroon mint navy olive orange pink plum purple red ruby silver teal white"
    " yellow"
)
NOISE_WORDS = _words(
    "apple bread breeze cheese cloud corn creek dawn dust evening farm field fog forest frost grass"
    " hail hill honey lake leaf meadow milk mist moon morning mountain mud night noon ocean pear"
    " pepper rain rice river rock salt sand sea shade sky snow soup star storm sugar valley"
)
PREAMBLE = (
    "Some of these sentences say the colour of a thing, or a pass key. The latest one counts."
)


def fact(key: int, value: int) -> str:
    """A fact."""
    return f"The colour of the {KEY_WORDS[key]} is {VALUE_WORDS[value]}."


def decoy(key: int, value: int, noise: Sequence[int]) -> str:
    """Key and value in a sentence of noise."""
    words = [NOISE_WORDS[word] for word in noise]
    pair = [KEY_WORDS[key], VALUE_WORDS[value]]
    return " ".join([words[0].capitalize(), *pair, *words[1:]]) + "."


def passkey(digits: Sequence[int]) -> str:
    """A pass key."""
    return f"The pass key is {number(digits)}."


def noise(words: Sequence[int]) -> str:
    """A sentence of noise words."""
    return " ".join(NOISE_WORDS[word] for word in words).capitalize() + "."


def number(digits: Sequence[int]) -> str:
    """Digits in a row."""
    return "".join(map(str, digits))

"""How InfiniteBench scores replies, with the quirks of its authors' code.

The quirks are kept because published numbers have them. Every score takes a reply and the answers
of a record: one that is right; for a choice what the right option says, and its letter.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from transfer.tasks.benchmarks.extra import needed
from transfer.tasks.benchmarks.metrics import bare_tokens, token_f1, word_f1

_NUMBER = re.compile(r"\d+\.\d+|\d+")
_MARKS = "\n:\"'.,?!{}"
LETTERS = "ABCD"


def first_integer(reply: str, answers: Sequence[str]) -> float:
    """Whether the first digits are the answer's, zeros in front included."""
    found = re.search("[0-9]+", reply)
    return float(found is not None and found[0] == answers[0])


def first_number(reply: str, answers: Sequence[str]) -> float:
    """Whether the first number, with a fraction or without, is worth as much as the answer."""
    found = _NUMBER.search(reply)
    return float(found is not None and float(found[0]) == float(answers[0]))


def last_integer(reply: str, answers: Sequence[str]) -> float:
    """Whether the last word is the answer as a whole number."""
    words = _apart(reply, "\n.`'\":").split()
    try:
        return float(bool(words) and int(words[-1]) == int(answers[0]))
    except ValueError:
        return 0.0


def right_beginning(reply: str, answers: Sequence[str]) -> float:
    """Share of the answer's whole numbers before the first that the reply has otherwise.

    The second answer is the term that the calculation begins with; a reply may repeat it first, as
    the examples of the prompt do. The authors leave it out for the one model that does so.
    """
    right, told = _whole_numbers(answers[0]), _whole_numbers(reply)
    begins = [told] + [told[1:] for first in answers[1:] if told[:1] == _whole_numbers(first)]
    return max(_alike(right, numbers) for numbers in begins) / len(right)


def word_within(reply: str, answers: Sequence[str]) -> float:
    """Whether one of the words between spaces and punctuation is the answer."""
    return float(answers[0] in _apart(reply, _MARKS).split())


def name_within(reply: str, answers: Sequence[str]) -> float:
    """`word_within` the reply in upper case; a name of two words is never found."""
    return word_within(reply.upper(), answers)


def chosen(reply: str, answers: Sequence[str]) -> float:
    """Whether the reply begins with the right letter or is the right option, or says so later."""
    reply = reply.strip()
    if not reply:
        return 0.0
    if reply[0] in LETTERS:
        return float(reply[0] in answers)
    if reply in answers:
        return 1.0
    words = _apart(reply, _MARKS.replace(":", ""))
    told = _after(words, "answer is:", "answer:", "answer is", "option is")
    if told is not None:
        return float(told.startswith(tuple(answers)))
    # The authors look for a word within "ABCD": "AB" is taken for a letter, too, and is wrong.
    letters = (word for word in words.split() if word in LETTERS)
    return float(next(letters, "") in answers)


def function_chosen(reply: str, answers: Sequence[str]) -> float:
    """Whether the reply begins with the right letter and a mark, or names it after a phrase."""
    name, letter = answers
    reply = reply.strip()
    if reply.startswith((f"{letter}.", f"{letter}:")):
        return 1.0
    for apart in ("\n", "`", "'", '"', "-", "*", "Option", "option"):
        reply = reply.replace(apart, " ")
    phrases = ("answer is:", "is:", "answer:", "correct option is:")
    told = _after(reply, *phrases)
    return float(told is not None and told.startswith((letter, name)))


def best_word_f1(reply: str, answers: Sequence[str]) -> float:
    """Best F1 of the words over the answers."""
    return max(word_f1(reply, answer) for answer in answers)


def best_character_f1(reply: str, answers: Sequence[str]) -> float:
    """Best F1 of the characters, without punctuation and spaces, over the answers."""
    return max(token_f1(_characters(reply), _characters(answer)) for answer in answers)


def rouge_l_sum(reply: str, answers: Sequence[str]) -> float:
    """Best F of ROUGE-L over whole summaries whose sentences are lines, unstemmed.

    Raises:
        UserError: the package rouge-score is not installed.
    """
    scorer: Any = needed("rouge_score.rouge_scorer").RougeScorer(["rougeLsum"], use_stemmer=False)
    return scorer.score_multi(answers, reply)["rougeLsum"].fmeasure


def _apart(text: str, marks: Iterable[str]) -> str:
    return text.translate(str.maketrans(dict.fromkeys(marks, " ")))


def _after(text: str, *phrases: str) -> str | None:
    """What follows a phrase and one more character, of the phrases the first that occurs."""
    text = re.sub(" +", " ", text)
    found = next((phrase for phrase in phrases if phrase in text), None)
    return None if found is None else text.partition(found)[2][1:]


def _alike(right: list[str], told: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(right, told)))


def _whole_numbers(text: str) -> list[str]:
    # As text: a reply may run through more digits than Python makes a number of.
    return [digits.lstrip("0") for digits in re.findall("[0-9]+", text)]


def _characters(text: str) -> list[str]:
    return list("".join(bare_tokens([text])))

"""Why the words of a command line do not fit its options, in one sentence with the remedy.

tyro frames what it refuses in a box of ten lines. Which word is wrong and what to write instead is
found here again, from the same configuration; the box is printed only where nothing is found.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING
from typing import Any

from transfer.arguments import fits, in_words, literal
from transfer.cli.options import Option, options_of
from transfer.errors import UserError, percent, unknown_name

_Given = tuple[Option, list[str]]


def refuse(program: str, words: Sequence[str], config: type, kinds: Mapping[str, type]) -> None:
    """Say which of the words does not fit, and what would.

    Args:
        program: the command with its kind.
        words: that follow it.
        config: the configuration.
        kinds: of every kind of the command, if it has several.

    Raises:
        UserError: about the first that does not; nothing if that is not found.
    """
    options = options_of(config)
    given, loose = _given(program, words, options, kinds)
    for option, values in given:
        if not values and not option.is_switch and not option.many:
            raise UserError(f"{option.shown} says nothing; give it {_wanted(option)}")
        for value in values:
            _check_value(option, value)
    placed = [option for option in options if not option.flags]
    # The last may take all that is left.
    taken = len(loose) if placed and placed[-1].many else len(placed)
    for option, value in zip(placed, loose):
        _check_value(option, value)
    for value in loose[taken:]:
        raise UserError(
            f"{program}: {value!r} belongs to no option; put quotes around a value with spaces, "
            f"or leave it out ({_see(program)})"
        )
    named = [option for option, _ in given] + placed[: len(loose)]
    for option in options:
        if option.default is MISSING and option not in named:
            raise UserError(f"{program} needs {option.shown}: {option.clause}; {_see(program)}")


def _given(
    program: str, words: Sequence[str], options: Sequence[Option], kinds: Mapping[str, type]
) -> tuple[list[_Given], list[str]]:
    """The options of the words with their values, and the words that are of none.

    Raises:
        UserError: there is no such option.
    """
    by_flag = {flag: option for option in options for flag in option.flags}
    given: list[_Given] = []
    loose: list[str] = []
    for word in words:
        flag, joined, value = word.partition("=")
        if re.match("--?[A-Za-z]", word):
            flag = flag.replace("_", "-")
            if flag not in by_flag:
                raise _unknown(program, flag, by_flag, kinds)
            given.append((by_flag[flag], [value] if joined else []))
        elif given and _takes_more(*given[-1]):
            given[-1][1].append(word)
        else:
            loose.append(word)
    return given, loose


def _unknown(program: str, flag: str, known: Iterable[str], kinds: Mapping[str, type]) -> UserError:
    flags = {
        kind: [flag for one in options_of(each) for flag in one.flags]
        for kind, each in kinds.items()
    }
    others = [kind for kind, own in flags.items() if flag in own]
    if others:
        command = program.rpartition(" ")[0]
        found = " and ".join(f"`{command} {kind}`" for kind in others)
        return UserError(
            f"{flag} is no option of `{program}`, but of {found}; leave it out, or name a model of "
            "that kind"
        )
    return unknown_name(f"option of `{program}`", flag, known, _see(program))


def _takes_more(option: Option, values: Sequence[str]) -> bool:
    return not option.is_switch and (option.many or not values)


def _check_value(option: Option, word: str) -> None:
    if fits(_meant(word), option.kind) or fits(word, option.kind):
        return
    number = re.fullmatch(r"([0-9]+\.?[0-9]*) ?%", word)
    hint = percent(float(number[1])) if number else ""
    if "," in word:
        hint = ", with spaces between several values, and with a point for decimals"
    raise UserError(f"{option.shown} is {word}; use {_wanted(option)}{hint}")


def _meant(word: str) -> Any:
    return None if word == "none" else literal(word)


def _wanted(option: Option) -> str:
    if option.choices:
        return " or ".join([*option.choices, *(["None"] if fits(None, option.kind) else [])])
    return in_words(option.kind)


def _see(program: str) -> str:
    return f"`{program} --help` shows what there is"

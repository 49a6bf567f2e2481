"""From the words of a command line to a configuration: tyro parses, and what it refuses is said.

tyro frames what it refuses in a box of ten lines. Which word is wrong and what to write instead is
found here again, from the same configuration; its box is printed only where nothing is found.
"""

import io
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING
from types import NoneType
from typing import Any, NoReturn

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

from transfer.arguments import fits, in_words, literal
from transfer.cli.help import help_of
from transfer.cli.options import Option, options_of
from transfer.errors import UserError, percent, unknown_name
from transfer.terminal import is_coloured

EVERYTHING = "--help-all"
HELP = ("-h", "--help", EVERYTHING)
Given = tuple[Option, list[str]]


def refuse_unreadable(words: Sequence[str]) -> None:
    """Refuse words that say nothing, or are no text.

    Raises:
        UserError: the first of them.
    """
    for before, word in zip(["transfer", *words], words):
        # An empty path would be the folder one stands in.
        if not word or re.fullmatch(r"--[\w-]+=", word):
            raise UserError(f"{word or before} says nothing; give it a value")
        # Neither results nor tables could repeat it.
        if not word.isascii() and word.encode(errors="ignore").decode() != word:
            raise UserError(f"{word!a} is no text in UTF-8; rename what it names")


def answer(text: str) -> NoReturn:
    """Print it, and nothing is run."""
    print(text)
    raise SystemExit(0)


def with_kind(program: str, command: Any, words: Sequence[str]) -> list[str]:
    """The words after a command of several kinds, beginning with the kind, or with `--help`.

    Raises:
        UserError: no kind was named, or one that is not.
    """
    helped = ["--help" if word in HELP else word for word in words]
    found = command.with_kind(helped)
    if found and found[0] in command.CONFIG:
        # As they were asked for.
        return [found[0], *words[len(words) - len(found) + 1 :]]
    if "--help" in helped:
        return ["--help"]
    if found and not found[0].startswith("-"):
        raise unknown_name(f"kind of `{program}`", found[0], command.CONFIG)
    raise UserError(
        f"{program} needs a kind, {' or '.join(command.CONFIG)}; `{program} --help` explains them"
    )


def parsed(program: str, words: Sequence[str], config: type, kinds: Mapping[str, type]) -> Any:
    """The configuration that the words spell.

    Args:
        program: the command with its kind.
        words: that follow it.
        config: the configuration.
        kinds: of every kind of the command, if it has several.

    Raises:
        UserError: they do not fit it.
        SystemExit: they ask for help, which was printed.
    """
    if {*HELP[:2]} & set(words):
        answer(help_of(program, config))
    said = io.StringIO()
    # It knows terminals, but neither NO_COLOR nor FORCE_COLOR.
    tyro._fmtlib._FORCE_ANSI = is_coloured(sys.stdout)  # pyright: ignore[reportAttributeAccessIssue]
    tyro._experimental_options["ansi_codes"] = is_coloured(sys.stdout)
    try:
        with redirect_stderr(said):
            return tyro.cli(
                config,
                prog=program,
                args=["--help"] if EVERYTHING in words else list(words),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
                registry=_registry(),
            )
    except SystemExit as left:
        if left.code:
            flags = {
                kind: {f for o in options_of(each) for f in o.flags} for kind, each in kinds.items()
            }
            refuse(program, words, options_of(config), flags)
            print(said.getvalue(), end="", file=sys.stderr)
        raise


def refuse(
    program: str, words: Sequence[str], options: Sequence[Option], others: Mapping[str, set[str]]
) -> None:
    """Say which of the words does not fit the options, and what would.

    Args:
        program: the command.
        words: that follow it.
        options: of it.
        others: kind -> how its options are spelled.

    Raises:
        UserError: about the first that does not; nothing if that is not found.
    """
    given, loose = _given(program, words, options, others)
    for option, values in given:
        if not values and not option.is_switch and not option.many:
            raise UserError(f"{option.shown} says nothing; give it {_wanted(option)}")
        for value in values:
            _check_value(option, value)
    placed = [option for option in options if not option.flags]
    for option, value in zip(placed, loose):
        _check_value(option, value)
    for value in loose[len(placed) :]:
        raise UserError(
            f"{program}: {value!r} belongs to no option; put quotes around a value with spaces, "
            f"or leave it out ({_see(program)})"
        )
    named = [option for option, _ in given] + placed[: len(loose)]
    for option in options:
        if option.default is MISSING and option not in named:
            raise UserError(f"{program} needs {option.shown}: {option.clause}; {_see(program)}")


def _given(
    program: str, words: Sequence[str], options: Sequence[Option], others: Mapping[str, set[str]]
) -> tuple[list[Given], list[str]]:
    """The options of the words with their values, and the words that are of none.

    Raises:
        UserError: there is no such option.
    """
    by_flag = {flag: option for option in options for flag in option.flags}
    given: list[Given] = []
    loose: list[str] = []
    for word in words:
        flag, joined, value = word.partition("=")
        if re.match("--?[A-Za-z]", word):
            flag = flag.replace("_", "-")
            if flag not in by_flag:
                raise _unknown(program, flag, by_flag, others)
            given.append((by_flag[flag], [value] if joined else []))
        elif given and _takes_more(*given[-1]):
            given[-1][1].append(word)
        else:
            loose.append(word)
    return given, loose


def _unknown(
    program: str, flag: str, known: Iterable[str], others: Mapping[str, set[str]]
) -> UserError:
    kinds = [kind for kind, flags in others.items() if flag in flags]
    if kinds:
        command = program.rpartition(" ")[0]
        found = " and ".join(f"`{command} {kind}`" for kind in kinds)
        return UserError(f"{flag} is no option of `{program}`, but of {found}; leave it out")
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


def _registry() -> ConstructorRegistry:
    """Where None is an answer, none is too."""
    registry = ConstructorRegistry()
    said = PrimitiveConstructorSpec(
        nargs=1,
        metavar="{None}",
        choices=("None", "none"),
        instance_from_str=lambda words: None,
        is_instance=lambda value: value is None,
        str_from_instance=lambda value: ["None"],
    )
    registry.primitive_rule(lambda info: said if info.type is NoneType else None)
    return registry

"""From the words of a command line to a configuration; tyro parses them."""

import io
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from types import NoneType
from typing import Any, NoReturn

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

from transfer.cli.help import help_of
from transfer.cli.refusal import refuse
from transfer.errors import UserError, unknown_name
from transfer.terminal import is_coloured

EVERYTHING = "--help-all"
HELP = ("-h", "--help", EVERYTHING)


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
            made = tyro.cli(
                config,
                prog=program,
                args=["--help"] if EVERYTHING in words else list(words),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
                registry=_registry(),
            )
    except SystemExit as left:
        if left.code:
            refuse(program, words, config, kinds)
        print(said.getvalue(), end="", file=sys.stderr)
        raise
    print(said.getvalue(), end="", file=sys.stderr)
    return made


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

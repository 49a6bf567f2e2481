"""The help that fits a screen; that of every option is tyro's, by `--help-all`."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from textwrap import wrap
from typing import Any

import transfer
from transfer.cli.examples import EXAMPLES, FIRST, USED
from transfer.cli.options import Option, options_of, purpose
from transfer.evaluation.options import flat_options
from transfer.terminal import BOLD, styled

_MOST, _MARGIN = 100, 2


def overview(groups: Mapping[str, Mapping[str, str]]) -> str:
    """What there is, a line a command, and what to try first.

    Args:
        groups: title -> command -> what it does.
    """
    lines = ["usage: transfer COMMAND [options]", "", f"{_TITLE} ({transfer.__version__})."]
    wide = max(len(name) for commands in groups.values() for name in commands)
    for title, commands in groups.items():
        lines += ["", _head(title), *_table(commands, wide)]
    lines += ["", _head("try first"), *_indented(FIRST)]
    return "\n".join([*lines, "", *_filled(_MORE)])


_TITLE = "Prune the KV cache of any transformer with one evolved network"
_MORE = (
    "`transfer COMMAND --help` shows how to use a command, `--help-all` all of its options; "
    "`transfer --version` the version."
)


def help_of_kinds(program: str, about: str, kinds: Mapping[str, type]) -> str:
    """The help of a command that has several kinds, none of which was named."""
    lines = [f"usage: {program} {{{','.join(kinds)}}} [options]", "", *_filled(about)]
    lines += ["", _head("kinds"), *_table({kind: purpose(one) for kind, one in kinds.items()})]
    lines += _examples(program)
    return "\n".join([*lines, "", *_filled(f"`{program} KIND --help` shows how to use one.")])


def help_of(program: str, config: type) -> str:
    """The short help of a command, or of one of its kinds."""
    options, command = options_of(config), program.removeprefix("transfer ")
    used = USED.get(command, " ".join(one.name for one in options)).split()
    by_name = {one.name: one for one in options}
    shown = [one for one in options if not one.flags] + [by_name[name] for name in used]
    rest = [one.shown for one in options if one not in shown]
    needed = [_usage(one) for one in options if one.default is MISSING or not one.flags]
    usage = " ".join(["usage:", program, *needed, "[options]"])
    lines = [*_filled(usage, len("usage: ")), "", *_filled(purpose(config)), ""]
    lines += _table({one.shown: _said(one) for one in dict.fromkeys(shown)})
    if rest:
        lines += ["", *_filled(f"also: {' '.join(rest)}")]
    return "\n".join(
        [*lines, *_examples(program), "", *_filled(f"`{program} --help-all` explains all options.")]
    )


def going_to_run(program: str, config: Any) -> str:
    """What is about to run, in a line: the options that people use, with their values."""
    values = {name: _spelled(value) for name, value in flat_options(config)}
    names = USED.get(program.removeprefix("transfer "), " ".join(values)).split()
    told = (f"{name.replace('_', ' ')} {values[name]}" for name in names if values[name])
    return f"{program}: {', '.join(told) or 'begins'}"


def _usage(option: Option) -> str:
    if option.flags:
        return f"{option.shown} {option.takes}"
    return option.takes if option.default is MISSING else f"[{option.takes}]"


def _said(option: Option) -> str:
    """A line about an option: its first clause, its choices and its default."""
    told = [", ".join(option.choices)] if len(option.choices) > 1 else []
    if option.default is MISSING:
        told.append("required")
    elif _spelled(option.default):
        told.append(f"default {_spelled(option.default)}")
    return f"{option.clause} [{'; '.join(told)}]" if told else option.clause


def _spelled(value: Any) -> str:
    """A value as it is typed; nothing for one that says nothing."""
    if value is None or isinstance(value, bool):
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _examples(program: str) -> list[str]:
    lines = EXAMPLES.get(program.removeprefix("transfer "), ())
    return ["", _head("examples"), *_indented(lines)] if lines else []


def _head(title: str) -> str:
    return styled(f"{title}:", BOLD, sys.stdout)


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"{' ' * _MARGIN}{line}" for line in lines]


def _table(rows: Mapping[str, str], wide: int = 0) -> list[str]:
    """Names and what is said of them, in two columns, the first at least so wide."""
    wide = max(wide, *map(len, rows)) + 2
    lines = []
    for name, text in rows.items():
        first, *others = wrap(text, _width() - wide - _MARGIN, break_on_hyphens=False) or [""]
        lines.append(f"{name:<{wide}}{first}".rstrip())
        lines += [f"{'':<{wide}}{line}" for line in others]
    return _indented(lines)


def _filled(text: str, indent: int = 0) -> list[str]:
    return wrap(text, _width(), subsequent_indent=" " * indent, break_on_hyphens=False)


def _width() -> int:
    return min(_MOST, shutil.get_terminal_size().columns)

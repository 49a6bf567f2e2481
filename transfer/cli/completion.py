"""`transfer --tyro-print-completion SHELL`: the script with which a shell completes our words.

tyro writes it from configurations. A kind may be left out, so that every option of all kinds
follows the command itself, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, make_dataclass
from typing import Annotated, Any, NoReturn, Union

import tyro

from transfer.cli.options import Option, options_of
from transfer.errors import UserError, unknown_name

SHELLS = ("bash", "zsh", "fish")


def complete(words: Sequence[str], commands: Mapping[str, Any]) -> NoReturn:
    """Print the script and end.

    Args:
        words: the shell.
        commands: name -> configuration, or kind -> configuration.

    Raises:
        UserError: no shell was named, or an unknown one.
        SystemExit: it was printed.
    """
    if len(words) != 1:
        raise UserError(f"name a shell, {' or '.join(SHELLS)}, after --tyro-print-completion")
    if words[0] not in SHELLS:
        raise unknown_name("shell", words[0], SHELLS)
    tyro.extras.subcommand_cli_from_dict(
        {
            name: _of_kinds(name, config) if isinstance(config, Mapping) else _plain(config)
            for name, config in commands.items()
        },
        prog="transfer",
        args=["--tyro-print-completion", *words],
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
    )
    raise SystemExit(0)


def _of_kinds(name: str, kinds: Mapping[str, type]) -> type:
    """The options of all kinds together, and each kind."""
    named = [Annotated[_plain(each), tyro.conf.subcommand(kind)] for kind, each in kinds.items()]
    every = {one.name: one for config in kinds.values() for one in options_of(config)}
    either = Union[tuple(named)]  # noqa: UP007  (of as many as there are)
    return make_dataclass(name, [*map(_field, every.values()), ("kind_", either)])


def _plain(config: type) -> type:
    """A configuration of the same options, each of which is described in one line.

    The scripts would offer every further line as a word.
    """
    return make_dataclass(config.__name__, map(_field, options_of(config)))


def _field(option: Option) -> tuple[str, Any, Any]:
    kind = tuple[option.kind, ...] if option.many else option.kind
    kind = kind if option.flags else tyro.conf.Positional[kind]
    described = Annotated[kind, tyro.conf.arg(help=option.clause, aliases=option.flags[1:] or None)]
    return option.name, described, field(default=option.default, kw_only=True)

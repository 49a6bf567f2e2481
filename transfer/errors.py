"""The exceptions of which the command line prints only the sentence, and common reasons."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

#: The most of anything that is counted, unless its option says otherwise; and of tokens and seeds.
MOST, MOST_TOKENS, MOST_SEED = 10**6, 10**7, 2**32 - 1
#: Numbers between these survive being squared in single precision.
LEAST, HUGE = 1e-12, 1e12


class UserError(Exception):
    """Bad input: one sentence naming the thing, its value and the remedy. Exit code 2."""


class SimulationError(RuntimeError):
    """The simulator or the policy broke down in the middle of an episode."""


#: Names of which all are told, and how many are of more than those.
_MOST_SHOWN, _SHOWN = 16, 8
#: How to go on from what is done now.
_HOW: list[str] = []


@contextmanager
def resumable(how: str) -> Iterator[None]:
    """An interrupt in here says how to go on."""
    _HOW.append(how)
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how) from None
    finally:
        _HOW.pop()


def how_to_go_on() -> str:
    """What an interrupt says now."""
    return next(iter(_HOW), "nothing was written; the same command begins anew")


def unknown_name(kind: str, name: str, known: Iterable[str], more: str = "") -> UserError:
    """The error for a name that no registry knows, with the nearest known names.

    Args:
        kind: of thing.
        name: as it was given.
        known: all names.
        more: what else would have been understood.
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {listed(known)}"
    if "," in name and set(name.split(",")) <= set(known):
        hint = f"write several with spaces between: {name.replace(',', ' ')}"
    return UserError(f"unknown {kind} {name!r}; {hint}" + (f" ({more})" if more else ""))


def listed(names: Iterable[str]) -> str:
    """Names in a sentence; of very many the shortest, which the others are kinds of."""
    every = list(names)
    shown = sorted(every, key=len)[:_SHOWN] if len(every) > _MOST_SHOWN else every
    rest = f" and {len(every) - len(shown)} more" if shown is not every else ""
    return ", ".join(name for name in every if name in shown) + rest


def percent(value: float) -> str:
    """What is added to the sentence about a share that was meant in percent."""
    return f"; {value:g} % is {value / 100:g}" if 1 < value <= 100 else ""


def check_at_least(least: int, config: object, *names: str, most: int = MOST) -> None:
    """Refuse options out of range; those that are None are left alone.

    Raises:
        UserError: the first of them, or the first of its values where it has many.
    """
    for name in names:
        told = getattr(config, name)
        for value in told if isinstance(told, tuple) else (told,):
            if value is not None and not least <= value <= most:
                bound = f"{least} or more" if value < least else f"at most {most:,}"
                raise UserError(f"--{name.replace('_', '-')} is {value}; use {bound}")


def check_unused(config: object, who: str, *names: str) -> None:
    """Refuse options that somebody does not look at and that are not as they are by default.

    Raises:
        UserError: the first of them.
    """
    for name in names:
        if getattr(config, name) != getattr(type(config), name):
            raise UserError(f"--{name.replace('_', '-')} is of no use for {who}; leave it out")


def check_above_zero(config: object, *names: str, most: int | float = MOST) -> None:
    """Refuse options that are no number above 0, or a larger one than makes sense.

    Raises:
        UserError: the first of them.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not LEAST <= value <= most:
            bound = "above 0" if not value > 0 else f"from {LEAST:g} to {most:g}"
            raise UserError(f"--{name.replace('_', '-')} is {value}; use a number {bound}")


def check_finite(config: object, *names: str, least: int | float = -HUGE) -> None:
    """Refuse options with values that are no numbers, or beyond those of single precision.

    Raises:
        UserError: the first of them, or the first of its values where it has many.
    """
    for name in names:
        told = getattr(config, name)
        for value in told if isinstance(told, tuple) else (told,):
            if value is not None and not least <= value <= HUGE:
                bound = f"from {least:g} to {HUGE:g}"
                raise UserError(f"--{name.replace('_', '-')} is {value}; use a number {bound}")

"""The two exceptions of which the command line prints only the sentence."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input: one sentence naming the thing, its value and the remedy. Exit code 2."""


class SimulationError(RuntimeError):
    """The simulator or the policy broke down in the middle of an episode."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that no registry knows, with the nearest known names."""
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}; {hint}")

"""What the settings of the memory tasks have in common: their ranges, and episodes of many lengths.

A Decision Transformer that starts with long episodes learns nothing of their cues; one that starts
with short ones does. So data are recorded over a ladder of lengths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from transfer.errors import UserError, unknown_name

T = TypeVar("T")


def read(kind: type[T], settings: Mapping[str, Any]) -> T:
    """A dataclass of settings.

    Raises:
        UserError: it has none of a name, or refuses a value.
    """
    known = [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]
    for name in settings:
        if name not in known:
            raise unknown_name("setting", name, known)
    return kind(**settings)


def check_range(name: str, value: int, least: int, most: int) -> None:
    """Refuse a setting out of range.

    Raises:
        UserError: it is, with the bound that it breaks.
    """
    if not least <= value <= most:
        bound = f"{least} or more" if value < least else f"at most {most:,}"
        raise UserError(f"{name} is {value}; use {bound}")


def rungs(name: str, longest: int, shortest: int | None, ladder: Sequence[int]) -> tuple[int, ...]:
    """The lengths that episodes are drawn from, ascending.

    Args:
        name: of the setting that says `longest`.
        longest: length of the longest episode.
        shortest: of the shortest; None: all are as long as the longest.
        ladder: lengths that are used in between.

    Raises:
        UserError: the shortest is longer than the longest.
    """
    if shortest is None:
        return (longest,)
    if shortest > longest:
        raise UserError(f"shortest is {shortest}, and {name} {longest}; use at most that")
    between = (one for one in ladder if shortest < one < longest)
    return tuple(sorted({shortest, *between, longest}))

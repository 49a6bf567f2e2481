"""What the file of a record is called after. Nothing heavy is imported."""

from collections.abc import Mapping

from transfer.errors import UserError


def plain(name: str) -> str:
    """A name that a file can have."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)


def check_apart(option: str, names: Mapping[str, str], remedy: str) -> None:
    """Refuse two of which the records of one would be taken for those of the other.

    Args:
        option: that names them.
        names: of each, what its records are called after.
        remedy: what to do.

    Raises:
        UserError: there are two.
    """
    found: dict[str, str] = {}
    for one, name in names.items():
        other = found.setdefault(plain(name), one)
        if other != one:
            raise UserError(
                f"{option}: the records of {other} and {one} would be called alike; {remedy}"
            )

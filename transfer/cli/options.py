"""The options of a command, as its configuration and the docstrings of that say them.

Short help, completion and the sentences for words that do not fit read them; tyro parses.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: of its field.
        flags: how it is spelled; none of what is told by its place.
        kind: what its values are; each, of those that take several.
        many: whether it takes several.
        default: MISSING where it has to be given.
        about: what its docstring says.
    """

    name: str
    flags: tuple[str, ...]
    kind: Any
    many: bool
    default: Any
    about: str

    @property
    def shown(self) -> str:
        """How messages call it."""
        return self.flags[0] if self.flags else self.name.upper()

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return self.kind is bool

    @property
    def choices(self) -> tuple[str, ...]:
        """All values, where they are few."""
        kinds = get_args(self.kind) if _is_union(self.kind) else (self.kind,)
        words = [get_args(one) for one in kinds if get_origin(one) is Literal]
        return tuple(str(word) for some in words for word in some)

    @property
    def takes(self) -> str:
        """What a usage line shows in place of its values."""
        value = "|".join(self.choices) or self.name.upper()
        return "" if self.is_switch else f"{value} ..." if self.many else value

    @property
    def clause(self) -> str:
        """The first clause of what is said of it."""
        ends = (found.start() for found in re.finditer(r"[.;:](?=\s|$)", self.about))
        clauses = (self.about[:end] for end in ends)
        return next((one for one in clauses if one.count("(") == one.count(")")), self.about)


def options_of(config: type) -> list[Option]:
    """All options of a configuration, those of nested ones among them."""
    return list(_options(config, None))


def purpose(config: type) -> str:
    """The first sentence that a configuration says of itself."""
    return " ".join((inspect.getdoc(config) or "").partition("\n\n")[0].split())


def _options(config: type, made: Any) -> Iterator[Option]:
    """The options, with the defaults of `made` where there is one."""
    kinds, about = get_type_hints(config, include_extras=True), _described(config)
    for one in fields(config):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        default = default if made is None else getattr(made, one.name)
        if is_dataclass(default):
            yield from _options(type(default), default)
            continue
        kind, extras = kinds[one.name], ()
        if get_origin(kind) is Annotated:
            kind, *extras = get_args(kind)
        many = get_origin(kind) is tuple
        flags = [f"--{one.name.replace('_', '-')}"]
        if default is True:
            flags.insert(0, f"--no-{flags[0][2:]}")
        for extra in extras:
            flags += getattr(extra, "aliases", None) or ()
        placed = tyro.conf.Positional in extras
        each = get_args(kind)[0] if many else kind
        said = about.get(one.name, "")
        yield Option(one.name, () if placed else tuple(flags), each, many, default, said)


def _described(config: type) -> Mapping[str, str]:
    """What the docstrings of a configuration, and of those it extends, say of its fields."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        text = inspect.cleandoc(base.__doc__ or "") + "\n"
        for section in re.findall(r"^(?:Args|Attributes):\n((?: {4}.*\n)*)", text, re.MULTILINE):
            _, *told = re.split(r"^ {4}(\w+): ", section, flags=re.MULTILINE)
            found |= {name: " ".join(said.split()) for name, said in zip(told[::2], told[1::2])}
    return found


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)

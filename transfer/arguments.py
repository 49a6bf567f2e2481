"""Arguments of public functions are what their signatures say, or one sentence at the call.

The annotations are read, so that what is documented, what a type checker sees and what is refused
are one thing. Shapes of tensors and ranges of numbers are left to who knows them.
"""

from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache, wraps
from inspect import Parameter, signature
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from transfer.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])

_MOST_SHOWN = 60
_WORDS: Mapping[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    NoneType: "None",
}


def typed(function: F) -> F:
    """Let a function refuse arguments of the wrong type when it is called.

    Numbers of numpy arrive as Python's; lists as tuples and texts as paths, where those are asked
    for.
    """
    parameters = signature(function)

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        bound = parameters.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            various = parameters.parameters[name].kind in (
                Parameter.VAR_POSITIONAL,
                Parameter.VAR_KEYWORD,
            )
            if name in _kinds(function) and not various:
                bound.arguments[name] = fitted(name, value, _kinds(function)[name])
        return function(*bound.args, **bound.kwargs)

    return checked  # type: ignore[return-value]


def check_fields(config: Any) -> None:
    """Refuse a dataclass whose fields are of other types than it says; as `typed`.

    Raises:
        UserError: the first of them.
    """
    for field in fields(config):
        value = fitted(field.name, getattr(config, field.name), _kinds(type(config))[field.name])
        object.__setattr__(config, field.name, value)


def fitted(name: str, value: Any, kind: Any) -> Any:
    """A value as an annotation asks for it.

    Raises:
        UserError: it is no such thing.
    """
    try:
        return _as(value, kind)
    except TypeError:
        own = getattr(value, name, None)
        inner = f"its .{name} or " if own is not None and fits(own, kind) else ""
        raise UserError(f"{name} is {shown(value)}; use {inner}{in_words(kind)}") from None


def literal(text: str) -> Any:
    """The number, list or other value of Python that a text of settings says, else the text."""
    try:
        return literal_eval(text)
    # The last three of what is nested too deeply, or hashed and cannot be.
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return text


def shown(value: Any) -> str:
    """A value and its type, in one line."""
    text = " ".join(repr(value).split())
    text = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    return (
        text if value is None or isinstance(value, type) else f"{text} ({_a(type(value).__name__)})"
    )


# Annotations are read at the first call: some name what is imported later.
_kinds = cache(get_type_hints)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is what an annotation asks for, or can be made that."""
    try:
        _as(value, kind)
    except TypeError:
        return False
    return True


def _as(value: Any, kind: Any) -> Any:
    """The value, converted.

    Raises:
        TypeError: it does not fit.
    """
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return next(_of_either(value, inside))
    if origin is Literal:
        return _checked(value, any(type(value) is type(one) and value == one for one in inside))
    if kind in _PLAIN:
        return _PLAIN[kind](value)
    if origin in (tuple, Sequence):
        return _items(value, origin, inside)
    if hasattr(kind, "array_type"):
        kind = kind.array_type
    kind = origin or kind
    if not isinstance(kind, type) or kind in (Any, object):
        return value
    return _checked(value, isinstance(value, kind) or _wraps_a_model(value, kind))


def _of_either(value: Any, kinds: Sequence[Any]) -> Iterator[Any]:
    for kind in kinds:
        if kind is NoneType and value is None:
            yield value
        elif value is not None and fits(value, kind):
            yield _as(value, kind)
    raise TypeError


def _checked(value: Any, fits: bool) -> Any:
    if not fits:
        raise TypeError
    return value


def _bool(value: Any) -> bool:
    # The second is numpy's.
    return bool(_checked(value, type(value).__name__ in ("bool", "bool_")))


def _whole(value: Any) -> int:
    return int(_checked(value, isinstance(value, Integral) and not isinstance(value, bool)))


def _number(value: Any) -> int | float:
    if isinstance(value, Integral):
        return _whole(value)
    return float(_checked(value, isinstance(value, Real)))


def _text(value: Any) -> str:
    return _checked(value, isinstance(value, str))


def _path(value: Any) -> Path:
    return Path(
        _checked(value, isinstance(value, Path) or (isinstance(value, str) and value != ""))
    )


_PLAIN: Mapping[Any, Callable[[Any], Any]] = {
    bool: _bool,
    int: _whole,
    float: _number,
    str: _text,
    Path: _path,
}


def _items(value: Any, origin: Any, inside: Sequence[Any]) -> Any:
    """Of a sequence, each."""
    array = type(value).__name__ == "ndarray"
    _checked(value, (isinstance(value, Sequence) or array) and not isinstance(value, str | bytes))
    if origin is tuple and (len(inside) != 2 or inside[1] is not Ellipsis):
        _checked(value, len(value) == len(inside))
        return tuple(_as(one, kind) for one, kind in zip(value, inside))
    items = [_as(one, inside[0]) for one in value]
    if origin is tuple:
        return tuple(items)
    return items if array else value


def _wraps_a_model(value: Any, kind: type) -> bool:
    """Whether this is a wrapper of a model, as PEFT's, which forwards all but its class."""
    of_transformers = kind.__module__.startswith("transformers.")
    return of_transformers and hasattr(value, "forward") and hasattr(value, "config")


def in_words(kind: Any) -> str:
    """What an annotation asks for, as "a number or None"."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        kinds = [one for one in inside if one is not int or float not in inside]
        return " or ".join(dict.fromkeys(map(in_words, kinds)))
    if origin is Literal:
        return " or ".join(map(repr, inside))
    if origin is tuple and inside[1:] != (Ellipsis,):
        return f"a tuple of {len(inside)} ({', '.join(map(in_words, inside))})"
    if origin in (tuple, Sequence):
        return f"a tuple or list (each {in_words(inside[0])})"
    if kind in _WORDS:
        return _WORDS[kind]
    return _a(getattr(getattr(kind, "array_type", origin or kind), "__name__", str(kind)))


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"

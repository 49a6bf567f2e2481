"""What repeats a run: its command line, and the versions of what computes."""

import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "gymnasium", "mujoco", "numpy")


def versions(packages: Sequence[str] = PACKAGES, **more: str) -> dict[str, str]:
    """Versions of everything that could change a digit; `more` adds such as the environment id."""
    found = {name: version(name) for name in packages}
    return {
        "namm-transfer": version("namm-transfer"),
        "python": platform.python_version(),
        **found,
        **more,
    }


def command_line(subcommand: str, config: Any, public: bool = False) -> str:
    """The shell command that repeats a run: every option of `config` that is not its default.

    Args:
        subcommand: the words between `transfer` and the options.
        config: a dataclass, the fields of nested ones being options like its own. An option is
            called what `tyro.conf.arg(name=...)` calls it, or else as its field is.
        public: show of absolute paths, which are this machine's, the last part.
    """
    words = ["transfer", *subcommand.split()]
    for name, value, default in _options(config, None):
        if value != default:
            words += _option_words(name, value, default, public)
    return shlex.join(words)


def _options(config: Any, usual: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and default of every option, those of nested configurations last.

    `usual` is the default of a nested `config`.
    """
    for option in sorted(fields(config), key=lambda each: is_dataclass(getattr(config, each.name))):
        value = getattr(config, option.name)
        default = getattr(usual, option.name, _default(option))
        if is_dataclass(value):
            yield from _options(value, default)
        else:
            yield _name(option), value, default


def _default(option: Field[Any]) -> Any:
    return option.default_factory() if option.default_factory is not MISSING else option.default


def _name(option: Field[Any]) -> str:
    notes = getattr(option.type, "__metadata__", ())
    names = [note.name for note in notes if isinstance(getattr(note, "name", None), str)]
    return names[0] if names else option.name


def _option_words(name: str, value: Any, default: Any, public: bool) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool) and isinstance(default, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    many = value if isinstance(value, list | tuple) else (value,)
    return [f"--{flag}", *(_public(one) if public else str(one) for one in many)]


def _public(value: Any) -> str:
    absolute = isinstance(value, str | Path) and Path(value).is_absolute()
    return Path(value).name if absolute else str(value)

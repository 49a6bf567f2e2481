"""What repeats a run: its command line, and the versions of what computes."""

import platform
import shlex
from dataclasses import MISSING, Field, fields
from importlib.metadata import version
from typing import Any

PACKAGES = ("torch", "transformers", "gymnasium", "mujoco", "numpy")


def versions(**more: str) -> dict[str, str]:
    """Versions of everything that could change a digit; `more` adds such as the environment id."""
    found = {name: version(name) for name in PACKAGES}
    return {
        "namm-transfer": version("namm-transfer"),
        "python": platform.python_version(),
        **found,
        **more,
    }


def command_line(subcommand: str, config: Any) -> str:
    """The shell command that repeats a run: every field of `config` that is not its default."""
    words = ["transfer", subcommand]
    for option in fields(config):
        value = getattr(config, option.name)
        if value != _default(option):
            words += _option_words(option.name, value)
    return shlex.join(words)


def _default(option: Field[Any]) -> Any:
    return option.default_factory() if option.default_factory is not MISSING else option.default


def _option_words(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else "--no-" + flag.removeprefix("--")]
    many = value if isinstance(value, tuple) else (value,)
    return [flag, *map(str, many)]

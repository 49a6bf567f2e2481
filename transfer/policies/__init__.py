"""Who goes: one small file for each eviction rule, selected by name."""

from collections.abc import Mapping
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Any

from transfer.arguments import typed
from transfer.cache.policy import PROTECTING, SHARING, Policy
from transfer.errors import MOST_TOKENS, UserError, unknown_name
from transfer.plugins import POLICIES

__all__ = ["POLICIES", "get_policy", "of_policy", "settings_of"]

#: Settings that go with every policy, and not to its constructor.
_OF_ALL = ("budget", "update_interval", "eviction", *PROTECTING, *SHARING)


def settings_of(name: str) -> Mapping[str, Any]:
    """The settings of a policy, with what they are by default (`Parameter.empty`: nothing).

    Raises:
        UserError: no policy has this name.
    """
    return {
        setting.name: setting.default
        for setting in signature(POLICIES.get(name)).parameters.values()
        if setting.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    }


def of_policy(name: str | None, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is given of `PROTECTING` and `SHARING`: what a policy takes itself, and the rest.

    Args:
        name: of the policy, which has settings of its own; None: it has none any more.
        given: None stands for nothing.

    Raises:
        UserError: no policy has this name.
    """
    rest = {each: value for each, value in given.items() if value is not None}
    own = rest.keys() & settings_of(name) if name else ()
    return {each: rest.pop(each) for each in own}, rest


@typed
def get_policy(name: str, /, **settings: Any) -> Policy:
    """Make a policy by name, e.g. `get_policy("recency", sinks=0)`.

    Args:
        name: built in, `package.module:Class`, registered, or an entry point.
        settings: of the policy.

    Raises:
        UserError: no policy has this name, or it has no such setting, of which the nearest are
            given; a setting is missing, or no number where it has to be one; or the policy's
            constructor raises, whatever it is.
    """
    policy: Any = POLICIES.get(name)
    known = settings_of(name)
    for setting, value in settings.items():
        if not known:
            raise UserError(
                f"policy {name} has no setting of its own, so no {setting!r}; what goes with every "
                f"policy is {', '.join(_OF_ALL)}"
            )
        if setting not in known:
            near = {*known, *_OF_ALL} - {setting}
            raise unknown_name(f"setting of policy {name}", setting, near)
        if _is_number(known[setting]) and not _is_number(value):
            raise UserError(
                f"{setting} of policy {name} is {value!r}; use a number, such as {known[setting]}"
            )
        _check_number(name, setting, value, known[setting])
    for setting, default in known.items():
        if default is Parameter.empty and setting not in settings:
            raise UserError(f"policy {name} needs {setting}; give {setting}=...")
    try:
        return policy(**settings)
    except UserError:
        raise
    # Somebody else's constructor may raise anything, and a script may leave.
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"policy {name} cannot be made ({reason}); check its settings") from error


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_number(name: str, setting: str, value: Any, default: Any) -> None:
    """Refuse fractions where the default is whole, and what no sequence is as long as."""
    if type(default) not in (int, float):
        return
    broken = type(default) is int and not isinstance(value, Integral)
    number: Any = value
    if broken or not -MOST_TOKENS <= number <= MOST_TOKENS:
        kind = "whole number" if type(default) is int else "number"
        raise UserError(
            f"{setting} of policy {name} is {value!r}; use a {kind} up to {MOST_TOKENS:,}"
        )

"""Who goes: one small file for each eviction rule, selected by name."""

from inspect import Parameter, signature
from typing import Any

from transfer.cache.policy import Policy
from transfer.errors import MOST_TOKENS, UserError, unknown_name
from transfer.plugins import POLICIES

__all__ = ["POLICIES", "get_policy"]


def get_policy(name: str, /, **settings: Any) -> Policy:
    """Make a policy by name, e.g. `get_policy("recency", sinks=0)`.

    Args:
        name: built in, `package.module:Class`, registered, or an entry point.
        settings: of the policy.

    Raises:
        UserError: no policy has this name, or it has no such setting, of which the nearest are
            given; or a setting is missing, or no number where it has to be one.
    """
    policy: Any = POLICIES.get(name)
    known = {
        setting.name: setting.default
        for setting in signature(policy).parameters.values()
        if setting.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    }
    for setting, value in settings.items():
        if not known:
            raise UserError(
                f"policy {name} has no setting of its own, so no {setting!r}; what goes with every "
                "policy is budget, update_interval and eviction"
            )
        if setting not in known:
            raise unknown_name(f"setting of policy {name}", setting, known)
        if isinstance(known[setting], int | float) and not isinstance(value, int | float):
            raise UserError(
                f"{setting} of policy {name} is {value!r}; use a number, such as {known[setting]}"
            )
        _check_number(name, setting, value, known[setting])
    for setting, default in known.items():
        if default is Parameter.empty and setting not in settings:
            raise UserError(f"policy {name} needs {setting}; give {setting}=...")
    return policy(**settings)


def _check_number(name: str, setting: str, value: Any, default: Any) -> None:
    """Refuse fractions where the default is whole, and what no sequence is as long as."""
    if type(default) not in (int, float):
        return
    whole = type(default) is int and type(value) is not int
    if whole or not -MOST_TOKENS <= value <= MOST_TOKENS:
        kind = "whole number" if type(default) is int else "number"
        raise UserError(
            f"{setting} of policy {name} is {value!r}; use a {kind} up to {MOST_TOKENS:,}"
        )

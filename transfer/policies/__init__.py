"""Who goes: one small file for each eviction rule, selected by name."""

from dataclasses import MISSING, fields
from importlib import import_module
from typing import Any

from transfer.cache.policy import Policy
from transfer.errors import UserError, unknown_name

#: Name -> class, as `module:class` inside this package.
POLICIES = {
    "fastgen": "fastgen:FastGen",
    "full": "full:Full",
    "h2o": "h2o:H2O",
    "h2o_age": "h2o_age:H2OAge",
    "l2_norm": "l2_norm:L2Norm",
    "namm": "namm:NAMMPolicy",
    "random": "random:Random",
    "recency": "recency:Recency",
    "snapkv": "snapkv:SnapKV",
    "tova": "tova:TOVA",
}


def get_policy(name: str, **settings: Any) -> Policy:
    """Make a policy by name, e.g. `get_policy("recency", sinks=0)`.

    Raises:
        UserError: no policy has this name, or it has no such setting; the nearest are given.
    """
    if name not in POLICIES:
        raise unknown_name("policy", name, POLICIES)
    module, kind = POLICIES[name].split(":")
    policy = getattr(import_module(f"{__name__}.{module}"), kind)
    known = {field.name: field.default for field in fields(policy)}
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of policy {name}", setting, known)
    for setting, default in known.items():
        if default is MISSING and setting not in settings:
            raise UserError(f"policy {name} needs {setting}; give {setting}=...")
    return policy(**settings)

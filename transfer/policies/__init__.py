"""Who goes: one small file for each eviction rule, selected by name."""

from importlib import import_module
from typing import Any

from transfer.cache.policy import Policy
from transfer.errors import unknown_name

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
        UserError: no policy has this name; the nearest ones are given.
    """
    if name not in POLICIES:
        raise unknown_name("policy", name, POLICIES)
    module, kind = POLICIES[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), kind)(**settings)

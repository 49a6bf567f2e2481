"""Prune the KV cache of any transformer with one evolved NAMM.

from transfer import NAMM, attach
namm = NAMM.from_pretrained("recall")
with attach(model, namm) as memory:
    out = model.generate(**inputs, cache=memory.new_cache())
memory.report()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfer import results
    from transfer.attachment.adapter import Adapter
    from transfer.attachment.check import check_adapter
    from transfer.attachment.memory import attach
    from transfer.cache.policy import Policy, Pruning
    from transfer.envs.environment import Environment
    from transfer.evaluation.benchmark import Benchmark
    from transfer.namm.config import NAMMConfig
    from transfer.namm.network import NAMM
    from transfer.plugins import register

__version__ = "0.1.0"
__all__ = [
    "NAMM",
    "Adapter",
    "Benchmark",
    "Environment",
    "NAMMConfig",
    "Policy",
    "Pruning",
    "__version__",
    "attach",
    "check_adapter",
    "register",
    "results",
]

_HOMES = {
    "Adapter": "transfer.attachment.adapter",
    "Benchmark": "transfer.evaluation.benchmark",
    "Environment": "transfer.envs.environment",
    "NAMM": "transfer.namm.network",
    "NAMMConfig": "transfer.namm.config",
    "Policy": "transfer.cache.policy",
    "Pruning": "transfer.cache.policy",
    "attach": "transfer.attachment.memory",
    "check_adapter": "transfer.attachment.check",
    "register": "transfer.plugins",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: `transfer --help` must not wait for torch.
    if name == "results":
        return import_module("transfer.results")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'transfer' has no attribute {name!r}")

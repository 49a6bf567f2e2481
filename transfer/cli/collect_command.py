"""`transfer collect`."""

from transfer.envs.collect import CollectConfig, collect

CONFIG = CollectConfig


def run(config: CollectConfig) -> int:
    """See `transfer.envs.collect.collect`."""
    collect(config)
    return 0

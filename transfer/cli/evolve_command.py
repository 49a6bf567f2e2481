"""`transfer evolve`."""

from transfer.evolution.evolve import EvolveConfig, evolve

CONFIG = EvolveConfig


def run(config: EvolveConfig) -> int:
    """See `transfer.evolution.evolve.evolve`."""
    evolve(config)
    return 0

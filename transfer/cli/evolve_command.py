"""`transfer evolve`."""

from transfer.evolution.config import EvolveConfig

CONFIG = EvolveConfig


def run(config: EvolveConfig) -> int:
    """See `transfer.evolution.evolve.evolve`."""
    from transfer.evolution.evolve import evolve

    evolve(config)
    return 0

"""The core: attention values in, one score a token out. Knows no model."""

from transfer.namm.config import NAMMConfig

__all__ = ["NAMMConfig"]

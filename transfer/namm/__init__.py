"""The core: attention values in, one score a token out. Knows no model."""

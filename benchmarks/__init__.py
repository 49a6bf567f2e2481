"""Timings, printed as tables and saved as JSON; run with `python -m benchmarks`."""

"""Runners, statistics and result files."""

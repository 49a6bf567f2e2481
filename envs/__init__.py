"""Environments, offline datasets and rollouts for control."""

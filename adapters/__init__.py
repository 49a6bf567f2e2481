"""Adapters: each knows one model family and no policy."""

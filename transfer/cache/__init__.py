"""What pruning does to a cache: ragged storage, attention over it, eviction."""

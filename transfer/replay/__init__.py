"""What a model's attention saw, written down once and replayed under any pruning without it.

Eviction in a layer depends on that layer's queries, keys and values alone. So a NAMM is judged on
records for a fraction of what a forward pass costs: no projections, no vocabulary, and of many
layers only some.
"""

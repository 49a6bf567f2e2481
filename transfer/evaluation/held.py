"""What rows say of a cache, so that contenders are compared by what they held and not by a budget.

Tokens are those of a head, averaged over layers and heads. Three numbers of each, and of bytes: the
average over the tokens that came (`held_mean`, `bytes_mean`), the most at once, each layer at its
own peak (`held_peak`, `peak_bytes`), and the end (`held_end`, also called `kept_tokens`, and
`cache_bytes`).
"""

from transfer.cache.cache import PrunedCache
from transfer.evaluation.benchmark import Row


def over_time(cache: PrunedCache, sequence: int = 0) -> Row:
    """What a sequence held from its first token on."""
    held = cache.held(sequence)
    return {"held_mean": held.mean, "held_peak": held.peak, "bytes_mean": held.mean_bytes}


def held(cache: PrunedCache, sequence: int = 0) -> Row:
    """Everything that rows say of a sequence's cache; of a batch its share of bytes and seconds."""
    kept = [tokens for layer in cache.used for tokens in layer.kept()[sequence]]
    batch = cache.used[0].batch_size
    return {
        "tokens": cache.used[0].seen,
        "kept_tokens": sum(kept) / len(kept),
        **over_time(cache, sequence),
        "cache_bytes": cache.bytes() // batch,
        "peak_bytes": cache.peak_bytes() // batch,
        "full_bytes": cache.full_bytes() // batch,
        "policy_seconds": cache.policy_seconds() / batch,
    }

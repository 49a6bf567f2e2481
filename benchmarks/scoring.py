"""Backward attention memory alone: 8 heads of equal length, and of the lengths that heads have.

Scoring is quadratic in a head's tokens. Heads of different length are scored each at its own, and
not in one batch padded to the longest.
"""

import torch

from benchmarks.layers import UNEVEN
from benchmarks.measure import Row, side_by_side
from transfer.namm.network import NAMM

TITLE = "Scores of 8 heads; seconds (median, fastest, slowest)"
TOKENS, REPEATS = (1024, 4096, 16384), 3


def run() -> list[Row]:
    """One row a number of tokens."""
    return [row(tokens) for tokens in TOKENS]


def row(tokens: int) -> Row:
    """Equal heads of so many tokens, and heads of `UNEVEN` shares of them, padded and not."""
    torch.manual_seed(0)
    namm = NAMM.from_pretrained("recall")
    features = torch.rand(len(UNEVEN), tokens, 17)
    age = torch.arange(tokens - 1, -1, -1).expand(len(UNEVEN), -1)
    lengths = [int(share * tokens) for share in UNEVEN]
    longest = max(lengths)

    def each() -> None:
        for head, length in enumerate(lengths):
            namm.score(features[head, None, -length:], age[head, None, -length:])

    prepared = {
        "equal heads": lambda: lambda: namm.score(features, age),
        "uneven, padded": lambda: lambda: namm.score(features[:, -longest:], age[:, -longest:]),
        "uneven, each its own": lambda: each,
    }
    times = side_by_side(prepared, REPEATS)
    padded, own = (times[f"uneven, {way}"].median for way in ("padded", "each its own"))
    return {
        "tokens": tokens,
        **{f"{name} s": str(timing) for name, timing in times.items()},
        "padded / own": round(padded / own, 2),
    }

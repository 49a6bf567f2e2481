"""From the features of a sequence's tokens to a score each. One file a kind.

A kind of your own is a subclass of `Scorer` in any module: `NAMMConfig(scorer="module:NAME")`, or
an entry point in the group `transfer.scorers`.
"""

from transfer.namm.scorers.base import Scorer, Shapes, affine, split

__all__ = ["Scorer", "Shapes", "affine", "split"]

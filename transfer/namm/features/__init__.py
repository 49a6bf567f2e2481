"""What a NAMM keeps of the attention that each token received. One file a kind.

A kind of your own is a subclass of `Feature` in any module: `NAMMConfig(features="module:NAME")`,
or an entry point in the group `transfer.features`. Kinds are joined with `+`: `log+ages`.
"""

from transfer.namm.features.base import Attention, Feature, Tokens

__all__ = ["Attention", "Feature", "Tokens"]

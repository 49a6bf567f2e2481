"""What a NAMM keeps of the attention that each token received. One file a kind.

spec                 the paper's spectrogram
log, slow            its logarithms, under the NAMM's decay and under one of ten times its length
relative             the logarithms among those of the head's other tokens: without a scale
relative_slow        the same under the second decay
rates                plain attention a query since a token came, lately, and squared: 3 numbers
ages, place, sink    where a token stands in its sequence, and in what is left of it
norms                of keys and values, which are no attention
unlike               how keys differ from the others of their head, no attention either
two_decays           log+slow
universal            log+relative+relative_slow+ages+place+sink
universal_norms      universal+norms

A kind of your own is a subclass of `Feature` in any module: `NAMMConfig(features="module:NAME")`,
or an entry point in the group `transfer.features`. Kinds are joined with `+`: `log+ages`.
"""

from transfer.namm.features.base import Attention, Feature, Tokens

__all__ = ["Attention", "Feature", "Tokens"]

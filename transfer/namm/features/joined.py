"""Features side by side, as in `log+ages`; and the names of those joined from the start.

What is kept is not kept twice: features of one family read the state of the largest.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.namm.features.base import Attention, Feature, Tokens
from transfer.namm.features.log import LOG, SLOW
from transfer.namm.features.norms import NORMS
from transfer.namm.features.place import AGES, PLACE, SINK
from transfer.namm.features.relative import RELATIVE, RELATIVE_SLOW
from transfer.plugins import FEATURES


class Joined(Feature):
    """What all of them read, one after the other.

    Args:
        features: each counts once; of joined ones their parts.

    Attributes:
        parts: the features, none of them joined.
    """

    def __init__(self, *features: Feature) -> None:
        self.parts = tuple(dict.fromkeys(part for each in features for part in parts_of(each)))
        self._keepers: dict[object, Feature] = {}
        for part in sorted(self.parts, key=lambda part: part.state_size):
            self._keepers[part.family] = part
        keepers = list(self._keepers.values())
        ends = list(accumulate(keeper.state_size for keeper in keepers))
        self._spans = {
            family: slice(end - keeper.state_size, end)
            for (family, keeper), end in zip(self._keepers.items(), ends)
        }
        self.state_size = ends[-1]
        self.width = sum(part.width for part in self.parts)
        self.looks_back = max(keeper.looks_back for keeper in keepers)
        self.multiple_of = math.lcm(*(keeper.multiple_of for keeper in keepers))
        self.half_state = all(keeper.half_state for keeper in keepers)
        self.byte_state = all(keeper.byte_state for keeper in keepers)
        self.reads_norms = any(part.reads_norms for part in self.parts)
        self.reads_unlike = any(part.reads_unlike for part in self.parts)

    def accumulate(
        self, window: Attention, state: Float[Tensor, "batch kv_heads tokens size"], gamma: float
    ) -> Float[Tensor, "batch kv_heads tokens size"]:
        """Each family's, by the one that keeps most."""
        found = [
            keeper.accumulate(window, state[..., self._spans[family]].contiguous(), gamma)
            for family, keeper in self._keepers.items()
        ]
        return torch.cat(found, -1)

    def read(self, tokens: Tokens) -> Float[Tensor, "rows tokens width"]:
        """Each with the state of its family."""
        return torch.cat(
            [
                part.read(replace(tokens, state=tokens.state[..., self._spans[part.family]]))
                for part in self.parts
            ],
            -1,
        )


def parts_of(feature: Feature) -> Sequence[Feature]:
    """A feature's parts; itself, if it is not joined."""
    return feature.parts if isinstance(feature, Joined) else (feature,)


def get_feature(name: str) -> Feature:
    """The feature of a name, or of several with `+` between them.

    Raises:
        UserError: a name is unknown, or of something that is no feature.
    """
    found = [FEATURES.get(part) for part in name.split("+")]
    return found[0] if len(found) == 1 else Joined(*found)


TWO_DECAYS = Joined(LOG, SLOW)
#: What `log` reads stands first, so that a NAMM of it can be gone on with.
UNIVERSAL = Joined(LOG, RELATIVE, RELATIVE_SLOW, AGES, PLACE, SINK)
UNIVERSAL_NORMS = Joined(UNIVERSAL, NORMS)

"""When each layer and head let go of each token of a text, and at what score.

A token that has left a head does not come back, so all that happens is one number a head and token:
the update at which it left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from transfer.adapters.replying import read
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.cache import PrunedCache
from transfer.cache.policy import Policy, Pruning
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError

#: Of what has not left.
NEVER = 65535
#: Tokens of the longest text times its heads, so that a page stays under 3 MB.
_MOST = 400_000


@dataclass(frozen=True)
class Fate:
    """What became of the tokens of a text.

    Attributes:
        tokens: as they are written.
        seen: how many had come at each update.
        layers: numbers of the layers that are pruned.
        left: the update at which each left, from 0; `NEVER`.
        scores: of each when it was scored last; NaN: never.
    """

    tokens: Sequence[str]
    seen: Sequence[int]
    layers: Sequence[int]
    left: Int[Tensor, "layers heads tokens"]
    scores: Float[Tensor, "layers heads tokens"]

    def kept(self) -> list[float]:
        """Tokens that a layer and head holds after each update, on average."""
        times = torch.arange(len(self.seen))[:, None, None, None]
        come = torch.tensor(self.seen)[:, None, None, None] > torch.arange(self.left.shape[-1])
        held = (self.left[None] > times) & come
        return held.sum(-1).double().mean((1, 2)).tolist()


def fate_of(
    model: PreTrainedModel, pruning: Pruning, ids: Sequence[int], tokens: Sequence[str]
) -> Fate:
    """Read tokens through a pruned cache and note what becomes of them.

    Args:
        model: that reads.
        pruning: of its cache.
        ids: of the tokens.
        tokens: how they are written.

    Raises:
        UserError: heads times tokens are more than a page has room for.
    """
    noting = Noting.of(pruning.policy, len(ids))
    with Memory(get_adapter(model), replace(pruning, policy=noting, trace=True)) as memory:
        cache = memory.new_cache()
        _check_room(cache, model, len(ids))
        read(model, ids, cache)
        layers = cache.pruned
        updates = [layer.kept_positions[0] for layer in layers]
        heads = len(layers[0].kept()[0])
        left = torch.stack([_left(own, heads, len(ids)) for own in updates])
    scores = torch.full(left.shape, torch.nan)
    for place, layer in enumerate(layers):
        if layer.index in noting.scores:
            scores[place] = noting.scores[layer.index]
    return Fate(
        tokens=tokens,
        seen=[seen for seen, _ in updates[0]],
        layers=[layer.index for layer in layers],
        left=left,
        scores=scores,
    )


def _check_room(cache: PrunedCache, model: PreTrainedModel, tokens: int) -> None:
    config = model.config.get_text_config()
    heads = len(cache.pruned) * (
        getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    )
    if heads * tokens > _MOST:
        raise UserError(
            f"{tokens} tokens in {heads} heads are more than a page has room for; use --length "
            f"{_MOST // heads}"
        )


def _left(
    updates: Sequence[tuple[int, Sequence[Tensor]]], heads: int, tokens: int
) -> Int[Tensor, "heads tokens"]:
    left = torch.full((heads, tokens), NEVER, dtype=torch.int32)
    for number, (seen, kept) in enumerate(updates):
        gone = torch.ones(heads, tokens, dtype=torch.bool)
        gone[:, seen:] = False
        for head, positions in enumerate(kept):
            gone[head, positions.cpu().long()] = False
        left[gone & (left == NEVER)] = number
    return left


#: What a layer reads of a policy beside its methods.
_TOLD = (
    "name", "reads_attention", "evicts", "state_size", "half_state", "byte_state", "multiple_of",
    "compares_heads", "threshold", "takes_threshold", "looks_back", "layer_budget", "accumulate",
)  # fmt: skip


@dataclass
class Noting(Policy):
    """A policy that does as another does, and notes the last score of every token.

    Attributes:
        inner: the other.
        tokens: of the text.
        scores: of each layer, `[heads, tokens]`; NaN: never scored.
    """

    inner: Policy
    tokens: int
    scores: dict[int, Float[Tensor, "heads tokens"]] = field(default_factory=dict)

    @classmethod
    def of(cls, inner: Policy, tokens: int) -> "Noting":
        """One that answers as `inner` whatever it is asked."""
        found = cls(inner, tokens)
        for name in _TOLD:
            setattr(found, name, getattr(inner, name))
        return found

    def score(self, window: AttentionWindow, state: Tensor) -> tuple[Any, Tensor]:
        """The other's scores."""
        scores, state = self.inner.score(window, state)
        noted = self.scores.setdefault(
            window.layer, torch.full((scores.shape[1], self.tokens), torch.nan)
        )
        for head, valid in enumerate(window.valid[0]):
            places = window.positions[0, head, valid].cpu().long()
            noted[head, places] = scores[0, head, valid].float().cpu()
        return scores, state

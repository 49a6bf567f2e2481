"""What each token was worth keeping, at each update of a replayed record.

Eviction has no gradient, but its cost has differences: how much more the rest of the record would
cost without a token that stayed, or how much less with one that left, all others as they are. One
token more or less moves a query's attention output along the line from it to the token's value, so
the differences of all tokens and all later queries are a few products of matrices.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.cache.window import AttentionWindow
from transfer.policies.namm import NAMMPolicy
from transfer.replay.cost import unpruned
from transfer.replay.recording import LayerStates
from transfer.replay.records import About

#: Attention values of a layer that are looked at; of more, every second query, or every third...
_MOST = 2_000_000
#: A token without which nothing is left was worth what another would be that has all but so much.
_LEAST = 0.02


@dataclass(frozen=True)
class Update:
    """The tokens of all heads at an update, padded on the left.

    Attributes:
        inputs: what a NAMM's scorer reads of them.
        valid: False at padding.
        kept: whether they stayed.
        loss: what each was worth, in units of `Costs.loss`; negative where the cost rises with it.
        outputs: likewise, in units of `Costs.outputs`.
    """

    inputs: Float[Tensor, "rows tokens width"]
    valid: Bool[Tensor, "rows tokens"]
    kept: Bool[Tensor, "rows tokens"]
    loss: Float[Tensor, "rows tokens"]
    outputs: Float[Tensor, "rows tokens"]


@dataclass(frozen=True)
class Worth:
    """Of one layer.

    Attributes:
        loss: the cost as it was, see `Costs`; an estimate, where not all queries are looked at.
        outputs: likewise.
        kept: share of the tokens held at the end.
        updates: after which something was still to come.
    """

    loss: float
    outputs: float
    kept: float
    updates: list[Update]


@dataclass(frozen=True)
class _Heard:
    seen: int
    columns: Int[Tensor, "rows tokens"]
    valid: Bool[Tensor, "rows tokens"]
    inputs: Float[Tensor, "rows tokens width"]


@dataclass(frozen=True)
class _Listening(NAMMPolicy):
    """Writes down what the NAMM's scorer reads."""

    heard: list[_Heard] = field(default_factory=list)

    name: ClassVar[str] = "listening"

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens size"]]:
        """Scores of the NAMM."""
        columns = (window.positions - window.first).flatten(0, 1).long().clamp(min=0)
        inputs = self.namm.embed(**self.told(window, state))
        seen = window.seen - window.first
        self.heard.append(_Heard(seen, columns, window.valid.flatten(0, 1), inputs))
        return super().score(window, state)


@torch.no_grad()
def worth(states: LayerStates, index: int, about: About, pruning: Pruning) -> Worth:
    """Replay a layer, and say what its tokens were worth.

    Args:
        states: of the layer.
        index: its number.
        about: the record that it is of.
        pruning: with the policy of one NAMM.
    """
    assert isinstance(pruning.policy, NAMMPolicy)
    policy = _Listening(pruning.policy.namm)
    layer = PrunedLayer(replace(pruning, policy=policy, trace=True), index)
    layer.first = about.first
    layer.attend(states.query, states.key, states.value, None, states.scale)
    tokens = about.tokens
    kept = torch.tensor(layer.kept()).double().mean().item() / tokens
    first = 0 if about.window else policy.heard[0].seen if policy.heard else tokens
    stride = max(1, states.query[:, :, 0, 0].numel() * tokens**2 // _MOST)
    queries = torch.arange(first, tokens, stride, device=states.query.device)
    if not len(queries):
        return Worth(0.0, 0.0, kept, [])
    left = _left(layer, (len(states.key), states.key.shape[1], tokens)).to(queries.device)
    loss, outputs, costs = _differences(states, queries, left, about.window)
    updates = []
    for heard in policy.heard:
        at = int(torch.searchsorted(queries, heard.seen))
        if at < len(queries):
            of_loss, of_outputs, when = (
                each.flatten(0, 1).gather(1, heard.columns)
                for each in (loss[:, :, at], outputs[:, :, at], left)
            )
            stayed = (when > heard.seen) & heard.valid
            scaled = stride * of_loss, stride * of_outputs
            updates.append(Update(heard.inputs, heard.valid, stayed, *scaled))
    return Worth(stride * costs[0], stride * costs[1], kept, updates)


def _left(layer: PrunedLayer, shape: tuple[int, int, int]) -> Int[Tensor, "rows kv_heads tokens"]:
    """How many tokens had come when each left; more than there are of those that stayed."""
    left = torch.full(shape, shape[-1] + 1)
    for row, updates in enumerate(layer.kept_positions):
        for seen, heads in updates:
            for head, held in enumerate(heads):
                gone = torch.ones(seen, dtype=torch.bool)
                gone[held.cpu().long()] = False
                before = left[row, head, :seen]
                before[gone] = before[gone].clamp(max=seen)
    return left


def _attention(
    states: LayerStates,
    queries: Int[Tensor, " queries"],
    left: Int[Tensor, "rows kv_heads tokens"],
) -> tuple[Float[Tensor, "rows heads queries tokens"], Bool[Tensor, "rows heads queries tokens"]]:
    """Weights over the sum of those held, of what had left too; and which were held."""
    groups = states.query.shape[1] // states.key.shape[1]
    key = states.key.repeat_interleave(groups, 1)
    scores = states.query[:, :, queries] @ key.mT * states.scale
    past = queries[:, None] >= torch.arange(key.shape[2], device=queries.device)
    held = (queries[:, None] < left[:, :, None]).repeat_interleave(groups, 1) & past
    total = scores.masked_fill(~held, -torch.inf).logsumexp(-1, keepdim=True)
    # (What left may weigh any number of times as much as all that stayed.)
    return (scores - total).clamp_(max=20).exp_().masked_fill_(~past, 0), held


def _differences(
    states: LayerStates,
    queries: Int[Tensor, " queries"],
    left: Int[Tensor, "rows kv_heads tokens"],
    window: int | None,
) -> tuple[
    Float[Tensor, "rows kv_heads queries tokens"],
    Float[Tensor, "rows kv_heads queries tokens"],
    tuple[float, float],
]:
    """What each token was worth to a query and all after it, by either cost; and the costs.

    Args:
        states: of the layer.
        queries: the tokens that are looked at.
        left: see `_left`.
        window: that the whole cache is compared in, see `About`.
    """
    groups = states.query.shape[1] // states.key.shape[1]
    value = states.value.repeat_interleave(groups, 1)
    gradient = states.gradient[:, :, queries]
    whole = unpruned(states, window)
    share, held = _attention(states, queries, left)
    out = (share * held) @ value
    change = out - whole[:, :, queries]
    # The way from the output to the token's value that the output goes when the token changes.
    way = torch.where(held, -share / (1 - share).clamp(min=_LEAST), share / (1 + share))

    def together(each: Tensor) -> Tensor:
        """Over the heads of a group."""
        return each.unflatten(1, (-1, groups)).sum(2)

    def later(each: Tensor) -> Tensor:
        """What the token is worth, over this query and all after it."""
        each = torch.where(held[:, ::groups], each, -each)
        return each.flip(2).cumsum(2).flip(2)

    def along(what: Tensor) -> Tensor:
        return what @ value.mT - (what * out).sum(-1, keepdim=True)

    moved = (gradient * change).sum((1, 3))
    step = together(along(gradient).mul_(way))
    loss = later(step * (2 * moved[:, None, :, None] + step))
    length = value.square().sum(-1)[:, :, None] - 2 * out @ value.mT
    length += out.square().sum(-1, keepdim=True)
    outputs = later(together(way * (2 * along(change) + way * length)))
    squares = whole.square().sum()
    costs = moved.square().sum().item(), (change.square().sum() / squares).item()
    return loss, outputs / squares, costs

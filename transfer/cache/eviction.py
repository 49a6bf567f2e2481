"""From scores to the tokens that stay."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def select(
    scores: Float[Tensor, "batch kv_heads tokens"],
    valid: Bool[Tensor, "batch kv_heads tokens"],
    threshold: int | float | None,
    budget: Int[Tensor, " batch"] | None,
    eviction: str,
    protected: Bool[Tensor, "batch kv_heads tokens"] | None = None,
    floor: int | float | None = None,
) -> Bool[Tensor, "batch kv_heads tokens"]:
    """Which tokens stay. The newest token of a head always does (paper section 3.2).

    Args:
        scores: higher stays longer.
        valid: False at padding (tokens are padded on the left, the newest is last).
        threshold: without a budget, tokens that score at least this much stay.
        budget: tokens each head of a sequence keeps at most.
        eviction: `exact` or `reference`, see `Pruning`.
        protected: tokens that stay whatever they score; of a budget they take their places first.
        floor: the heads of a layer share their budgets, and each keeps this part of its own; None:
            no head gives any away.
    """
    scores = scores.masked_fill(~valid, -torch.inf)
    if protected is not None:
        # Above what a policy scores infinite.
        scores.clamp_(max=torch.finfo(scores.dtype).max).masked_fill_(protected & valid, torch.inf)
    scores[..., -1].masked_fill_(valid[..., -1], torch.inf)
    if budget is not None and floor is not None:
        return _best_of_layer(scores, valid, budget, floor, protected)
    if budget is not None:
        count = budget[:, None, None].expand(*scores.shape[:2], 1)
    else:
        assert threshold is not None, "Pruning demands a budget of policies without threshold"
        above = (scores >= threshold) & valid
        if eviction == "exact":
            return above
        # The largest count over the heads. (The original also takes it over the batch, which it
        # only ever ran with one sequence: here sequences do not touch each other.)
        count = above.sum(-1).amax(1)[:, None, None].expand(*scores.shape[:2], 1)
    return _best(scores, count) & valid


def _best_of_layer(
    scores: Float[Tensor, "batch kv_heads tokens"],
    valid: Bool[Tensor, "batch kv_heads tokens"],
    budget: Int[Tensor, " batch"],
    floor: int | float,
    protected: Bool[Tensor, "batch kv_heads tokens"] | None,
) -> Bool[Tensor, "batch kv_heads tokens"]:
    """The best of all heads together, as many as the heads' budgets sum to.

    Among equals the token with fewer newer ones in its head wins, then the later head: heads that
    score alike keep alike.
    """
    batch, heads, _ = scores.shape
    least = (budget.double() * floor - 1e-9).ceil().long().clamp(min=1)
    sure = _best(scores, least[:, None, None].expand(batch, heads, 1))
    if protected is not None:
        sure |= protected
    # What a policy scores infinite takes no place of what is sure, nor padding one of a token.
    finite = torch.finfo(scores.dtype)
    scores = scores.clamp(finite.min, finite.max).masked_fill(sure, torch.inf)
    together = scores.masked_fill(~valid, -torch.inf).mT.reshape(batch, 1, -1)
    kept = _best(together, (heads * budget)[:, None, None])
    return kept.view(batch, -1, heads).mT & valid


def _best(
    scores: Float[Tensor, "batch rows tokens"], count: Int[Tensor, "batch rows 1"]
) -> Bool[Tensor, "batch rows tokens"]:
    """The `count` highest scores of each row; among equals the newer token wins."""
    order = scores.flip(-1).argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order)
    places = torch.arange(scores.shape[-1], device=scores.device).expand_as(order)
    rank.scatter_(-1, order, places)
    return (rank < count).flip(-1)

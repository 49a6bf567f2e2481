"""Backward attention memory (paper, section 3.2): a token is scored against what came after it.

Each token attends to itself and to what came after it, so a token can learn that something newer
makes it redundant. With the order reversed this is ordinary causal attention, for which the fused
kernels need no mask.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from transfer.namm.parameters import Shapes, affine

# Queries at a time of sampled attention; tokens it is checked on, and by how much of the scores'
# spread it may be wrong.
_BLOCK, _CHECKED, _TOLERANCE = 256, 128, 0.05


def bam_shapes(width: int, hidden: int, bias: bool) -> Shapes:
    """The pieces of the flat vector for `width` features, as the original implementation lays out.

    Weights are [inputs, outputs]. `bias` is that of the attention's two projections; the score
    always has one.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "qkv": (width, 3 * hidden),
        "qkv_bias": (3 * hidden,),
        "out": (hidden, 2 * width),
        "out_bias": (2 * width,),
        "score": (width, 1),
        "score_bias": (1,),
    }
    if not bias:
        del shapes["qkv_bias"], shapes["out_bias"]
    return shapes


def backward_attention(
    features: Float[Tensor, "population sequences tokens width"],
    parameters: Mapping[str, Tensor],
    span: int | None = None,
) -> Float[Tensor, "population sequences tokens 2*width"]:
    """Single-head self-attention in which token i sees the tokens j >= i, newest token last.

    Args:
        features: of the tokens.
        parameters: the pieces of the flat vector.
        span: see `bam_scores`.
    """
    newest_first = features.flip(-2)
    qkv = affine(newest_first, parameters["qkv"], parameters.get("qkv_bias"))
    query, key, value = qkv.chunk(3, -1)
    if span is None or features.shape[-2] <= 3 * span:
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
    else:
        mixed = _sampled_attention(query, key, value, span)
    return affine(mixed, parameters["out"], parameters.get("out_bias")).flip(-2)


def bam_scores(
    features: Float[Tensor, "population sequences tokens width"],
    parameters: Mapping[str, Tensor],
    span: int | None = None,
) -> Float[Tensor, "population sequences tokens"]:
    """score = (x (1 + gate) + shift) w + b, where attention gives each token a shift and a gate.

    Args:
        features: of the tokens, newest last.
        parameters: the pieces of the flat vector.
        span: None: exact, in time quadratic in the tokens. A number: each token attends exactly to
            at least its `span` next newer ones, and to `span` of the still newer ones, one of each
            stratum of equal size, in linear time. A distant token that draws most of the attention
            can be missed or count too much, so 128 tokens are scored exactly as well: where the rms
            error of their scores is above a twentieth of the scores' spread, all are scored
            exactly. Up to 3 `span` tokens always are.
    """
    scores = _gated(features, backward_attention(features, parameters, span), parameters)
    if span is None or features.shape[-2] <= 3 * span or _near(scores, features, parameters):
        return scores
    return bam_scores(features, parameters)


def _gated(
    features: Float[Tensor, "population sequences tokens width"],
    attended: Float[Tensor, "population sequences tokens 2*width"],
    parameters: Mapping[str, Tensor],
) -> Float[Tensor, "population sequences tokens"]:
    shift, gate = attended.chunk(2, -1)
    gated = (gate + 1).mul_(features).add_(shift)
    return affine(gated, parameters["score"], parameters["score_bias"]).squeeze(-1)


def _near(
    scores: Float[Tensor, "population sequences tokens"],
    features: Float[Tensor, "population sequences tokens width"],
    parameters: Mapping[str, Tensor],
) -> bool:
    """Whether scores are near the exact ones, as far as some tokens tell."""
    tokens = scores.shape[-1]
    some = _strata(tokens, _CHECKED, scores.device)
    qkv = affine(features, parameters["qkv"], parameters.get("qkv_bias"))
    query, key, value = qkv.chunk(3, -1)
    older = torch.arange(tokens, device=scores.device) < some[:, None]
    bias = scores.new_zeros(older.shape).masked_fill_(older, -torch.inf)
    mixed = scaled_dot_product_attention(query[..., some, :], key, value, attn_mask=bias)
    attended = affine(mixed, parameters["out"], parameters.get("out_bias"))
    exact = _gated(features[..., some, :], attended, parameters)
    error = (scores[..., some] - exact).square().mean().sqrt()
    return bool(error <= _TOLERANCE * scores.std())


def _sampled_attention(
    query: Float[Tensor, "population sequences tokens hidden"],
    key: Float[Tensor, "population sequences tokens hidden"],
    value: Float[Tensor, "population sequences tokens hidden"],
    span: int,
) -> Float[Tensor, "population sequences tokens hidden"]:
    """Causal attention, newest first, block by block over near tokens and some of the others."""
    tokens, out = query.shape[-2], torch.empty_like(value)
    query = query * query.shape[-1] ** -0.5
    for start in range(0, tokens, _BLOCK):
        stop, far = min(tokens, start + _BLOCK), max(0, start - span)
        sample = _strata(far, span, query.device)
        seen = torch.cat([sample, torch.arange(far, stop, device=query.device)])
        scores = query[..., start:stop, :] @ key[..., seen, :].mT
        # Each sampled token stands for its stratum.
        scores[..., : len(sample)] += math.log(max(1, far) / max(1, len(sample)))
        scores[..., start - stop :].masked_fill_(_future(stop - start, query.device), -torch.inf)
        weights = scores.sub_(scores.amax(-1, keepdim=True)).exp_()
        mixed = weights @ value[..., seen, :]
        torch.div(mixed, weights.sum(-1, keepdim=True), out=out[..., start:stop, :])
    return out


def _future(tokens: int, device: torch.device) -> Bool[Tensor, "tokens tokens"]:
    return torch.ones(tokens, tokens, dtype=torch.bool, device=device).triu(1)


def _strata(tokens: int, count: int, device: torch.device) -> Int[Tensor, " sample"]:
    """One of each of `count` strata of equal size, scattered within them by the golden ratio.

    (A fixed step would resonate with the sines of the tokens' ages.)
    """
    if tokens <= count:
        return torch.arange(tokens, device=device)
    stratum = torch.arange(count, dtype=torch.float64, device=device)
    within = (stratum * (math.sqrt(5) - 1) / 2).frac()
    return ((stratum + within) * tokens / count).long()

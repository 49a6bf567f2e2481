"""Backward attention memory (paper, section 3.2): a token is scored against what came after it.

Each token attends to itself and to what came after it, so a token can learn that something newer
makes it redundant. With the order reversed this is ordinary causal attention, for which the fused
kernels need no mask.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from transfer.namm.parameters import Shapes, affine

# Queries at a time of sampled attention.
_BLOCK = 256


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
            stratum of equal size; linear time, and standard error of what attention gives at most
            its spread over the newer ones / sqrt(span). Up to 3 `span` tokens are always exact.
    """
    shift, gate = backward_attention(features, parameters, span).chunk(2, -1)
    gated = (gate + 1).mul_(features).add_(shift)
    return affine(gated, parameters["score"], parameters["score_bias"]).squeeze(-1)


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
        weights = scores.sub_(scores.amax(-1, keepdim=True)).exp_()
        weights[..., start - stop :].tril_()
        mixed = weights @ value[..., seen, :]
        torch.div(mixed, weights.sum(-1, keepdim=True), out=out[..., start:stop, :])
    return out


def _strata(tokens: int, count: int, device: torch.device) -> Int[Tensor, " sample"]:
    """One of each of `count` strata of equal size, scattered within them by the golden ratio.

    (A fixed step would resonate with the sines of the tokens' ages.)
    """
    if tokens <= count:
        return torch.arange(tokens, device=device)
    stratum = torch.arange(count, dtype=torch.float64, device=device)
    within = (stratum * (math.sqrt(5) - 1) / 2).frac()
    return ((stratum + within) * tokens / count).long()

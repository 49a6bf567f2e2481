"""Attention that also returns the logsumexp of every row, per backend.

The logsumexp is what lets attention over evicted heads be merged from parts, and what lets the
window's attention values be recomputed later from the queries alone.
"""

from functools import cache
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor


def fused(states: Tensor) -> bool:
    """Whether these are for `transfer.cache.triton_kernels`: on a GPU, and no float64."""
    return states.is_cuda and states.dtype.itemsize <= 4 and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def attention(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch kv_heads tokens dim"],
    value: Float[Tensor, "batch kv_heads tokens value_dim"],
    scale: float,
    causal: bool = False,
    bias: Float[Tensor, "#batch #heads queries tokens"] | None = None,
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Float[Tensor, "batch heads queries"]]:
    """Softmax attention and the natural logsumexp of its rows.

    Query head `h * groups + g` reads KV head `h`. `causal` aligns query i with token i. There must
    be at least one token, and `bias` (0 or -inf) must leave at least one visible to each query:
    the fused kernels crash on the first and return a wrong logsumexp for the second.

    Returns:
        The output in the query's dtype, the logsumexp in float32 (float64 for float64).
    """
    # The fused kernel takes the last dimension for contiguous without looking.
    dense = all(tensor.stride(-1) == 1 for tensor in (query, key, value))
    if dense and query.device.type == "cpu" and query.shape[-1] == value.shape[-1]:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=bias, scale=scale
        )
    return plain_attention(query, key, value, scale, causal, bias)


def plain_attention(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch kv_heads tokens dim"],
    value: Float[Tensor, "batch kv_heads tokens value_dim"],
    scale: float,
    causal: bool = False,
    bias: Float[Tensor, "#batch #heads queries tokens"] | None = None,
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Float[Tensor, "batch heads queries"]]:
    """The formula itself, for every device and dtype; materialises the scores."""
    groups = query.shape[1] // key.shape[1]
    exact = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(exact) @ key.to(exact).repeat_interleave(groups, 1).mT * scale
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    if bias is not None:
        scores = scores + bias
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None]).exp()
    output = weights @ value.to(exact).repeat_interleave(groups, 1)
    return output.to(query.dtype), lse


def merge(
    first: tuple[Float[Tensor, "*rows dim"], Float[Tensor, "*rows"]],
    second: tuple[Float[Tensor, "*rows dim"], Float[Tensor, "*rows"]],
) -> tuple[Float[Tensor, "*rows dim"], Float[Tensor, "*rows"]]:
    """Attention over two disjoint sets of tokens from the attention over each.

    A logsumexp of -inf says that a part had no tokens.
    """
    (output, lse), (other, other_lse) = first, second
    total = torch.logaddexp(lse, other_lse)
    weight = (lse - total).exp()[..., None].to(output.dtype)
    other_weight = (other_lse - total).exp()[..., None].to(output.dtype)
    return output * weight + other * other_weight, total

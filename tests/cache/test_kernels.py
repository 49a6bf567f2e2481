import pytest
import torch

from transfer.cache.kernels import attention, merge, plain_attention

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("dim", [17, 64])
@pytest.mark.parametrize("mode", ["open", "causal", "bias"])
def test_fused_attention_equals_the_formula(mode, dim, dtype):
    query, key, value = (
        torch.randn(2, h, n, dim, dtype=dtype) for h, n in [(6, 5), (2, 5), (2, 5)]
    )
    bias = torch.zeros(1, 1, 5, 5, dtype=dtype)
    bias[..., 3] = -torch.inf
    extra = {"causal": mode == "causal", "bias": bias if mode == "bias" else None}
    out, lse = attention(query, key, value, 0.3, **extra)
    wide = [x.double() for x in (query, key, value)]
    scores = wide[0] @ wide[1].repeat_interleave(3, 1).mT * 0.3
    if mode == "causal":
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    if mode == "bias":
        scores = scores + bias.double()
    expected = scores.softmax(-1) @ wide[2].repeat_interleave(3, 1)
    assert (out.double() - expected).abs().max() < TOLERANCE[dtype]
    assert (lse.double() - scores.logsumexp(-1)).abs().max() < TOLERANCE[dtype]
    plain = plain_attention(query, key, value, 0.3, **extra)
    assert (plain[0].double() - expected).abs().max() < TOLERANCE[dtype]
    assert plain[1].dtype == lse.dtype


def test_values_of_another_width_take_the_plain_way():
    query, key, value = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 7, 8), torch.randn(1, 2, 7, 5)
    out, _ = attention(query, key, value, 0.5)
    torch.testing.assert_close(out, (query @ key.mT * 0.5).softmax(-1) @ value)


def test_merge_of_two_parts_is_attention_over_both():
    query, key, value = (torch.randn(1, 2, n, 8).double() for n in (4, 10, 10))
    parts = [attention(query, key[:, :, s], value[:, :, s], 0.4) for s in (slice(3), slice(3, 10))]
    out, lse = merge(*parts)
    expected, expected_lse = plain_attention(query, key, value, 0.4)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(lse, expected_lse)


def test_merge_with_an_empty_part_changes_nothing():
    out, lse = torch.randn(1, 2, 4, 8), torch.randn(1, 2, 4)
    merged, merged_lse = merge(
        (out, lse), (torch.zeros_like(out), torch.full_like(lse, -torch.inf))
    )
    assert torch.equal(merged, out)
    assert torch.equal(merged_lse, lse)


def test_keys_with_strides_of_their_own_are_read_right():
    query = torch.randn(1, 2, 7, 16)
    key, value = torch.randn(1, 2, 16, 7).mT, torch.randn(1, 2, 16, 7).mT
    expected = (query @ key.mT * 0.25).softmax(-1) @ value
    torch.testing.assert_close(attention(query, key, value, 0.25)[0], expected)

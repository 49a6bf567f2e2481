import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.namm.scorers import split
from transfer.namm.scorers.bam import BAM, backward_attention
from transfer.namm.scorers.mlp import MLP

WIDTH = 25


def _count(shapes):
    return sum(map(math.prod, shapes.values()))


def _parameters(shapes, population=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(population, _count(shapes), dtype=torch.float64, generator=generator) / 3
    return split(vector, shapes)


def _features(seed, *shape):
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(*shape, WIDTH, dtype=torch.float64, generator=generator)


def _direct(x, parameters, hidden):
    """The scores of one sequence [tokens, width] by an explicit mask over token pairs."""
    zero = torch.zeros((), dtype=x.dtype)
    piece = {name: value[0] for name, value in parameters.items()}
    query, key, value = (x @ piece["qkv"] + piece.get("qkv_bias", zero)).chunk(3, -1)
    older = torch.arange(len(x))[None] < torch.arange(len(x))[:, None]
    logits = (query @ key.T / math.sqrt(hidden)).masked_fill(older, -torch.inf)
    out = logits.softmax(-1) @ value @ piece["out"] + piece.get("out_bias", zero)
    shift, gate = out[:, :WIDTH], out[:, WIDTH:]
    return out, (x * (1 + gate) + shift) @ piece["score"][:, 0] + piece["score_bias"]


@given(
    seed=st.integers(0, 999),
    tokens=st.integers(1, 60),
    hidden=st.sampled_from([1, 3, 16, 32]),
    bias=st.booleans(),
)
def test_equals_masked_softmax(seed, tokens, hidden, bias):
    parameters = _parameters(BAM.shapes(WIDTH, hidden, bias), seed=seed)
    x = _features(seed, 1, 2, tokens)
    out, scores = backward_attention(x, parameters), BAM.scores(x, parameters)
    for sequence in range(2):
        expected_out, expected = _direct(x[0, sequence], parameters, hidden)
        torch.testing.assert_close(out[0, sequence], expected_out, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(scores[0, sequence], expected, rtol=1e-9, atol=1e-10)


def test_a_token_sees_newer_tokens_and_no_older_ones():
    parameters = _parameters(BAM.shapes(WIDTH, 8, True))
    x = _features(0, 1, 1, 12)
    changed = x.clone()
    changed[0, 0, 5] += 1
    moved = BAM.scores(changed, parameters)[0, 0] != BAM.scores(x, parameters)[0, 0]
    assert moved.tolist() == [True] * 6 + [False] * 6


@given(seed=st.integers(0, 999), padding=st.integers(1, 20), scale=st.sampled_from([0.0, 1.0, 1e4]))
def test_older_padding_never_changes_a_score(seed, padding, scale):
    parameters = _parameters(BAM.shapes(WIDTH, 32, True), seed=seed)
    x = _features(seed, 1, 2, 15)
    padded = torch.cat([scale * _features(seed + 1, 1, 2, padding), x], 2)
    torch.testing.assert_close(
        BAM.scores(padded, parameters)[..., padding:],
        BAM.scores(x, parameters),
        rtol=1e-10,
        atol=1e-12,
    )


def test_each_member_scores_with_its_own_parameters():
    shapes = BAM.shapes(WIDTH, 16, True)
    parameters = _parameters(shapes, population=3)
    x = _features(0, 3, 2, 9)
    together = BAM.scores(x, parameters)
    for member in range(3):
        own = {name: value[member : member + 1] for name, value in parameters.items()}
        alone = BAM.scores(x[member : member + 1], own)
        torch.testing.assert_close(together[member : member + 1], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("hidden", "bias", "size"), [(32, True, 4172), (16, False, 2026)])
def test_published_sizes(hidden, bias, size):
    assert _count(BAM.shapes(WIDTH, hidden, bias)) == size


def test_layout_is_row_major_in_the_published_order():
    shapes = BAM.shapes(WIDTH, 32, True)
    pieces = split(torch.arange(4172.0)[None], shapes)
    first = {name: piece.flatten()[0].item() for name, piece in pieces.items()}
    assert first == {
        "qkv": 0,
        "qkv_bias": 2400,
        "out": 2496,
        "out_bias": 4096,
        "score": 4146,
        "score_bias": 4171,
    }
    assert pieces["qkv"][0, 1, 0] == 96


@given(seed=st.integers(0, 999), hidden=st.integers(1, 20), bias=st.booleans())
def test_mlp_equals_the_formula(seed, hidden, bias):
    shapes = MLP.shapes(WIDTH, hidden, bias)
    assert _count(shapes) == 25 * hidden + (hidden if bias else 0) + hidden + 1
    parameters = _parameters(shapes, population=2, seed=seed)
    x = _features(seed, 2, 3, 5)
    zero = torch.zeros(2, hidden, dtype=x.dtype)
    for member in range(2):
        hidden_bias = parameters.get("hidden_bias", zero)[member]
        inner = (x[member] @ parameters["hidden"][member] + hidden_bias).clamp(min=0)
        expected = inner @ parameters["score"][member, :, 0] + parameters["score_bias"][member]
        scores = MLP.scores(x, parameters)[member]
        torch.testing.assert_close(scores, expected, rtol=1e-10, atol=1e-12)

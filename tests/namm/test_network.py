import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import UserError
from transfer.namm import NAMMConfig
from transfer.namm.features.log import LOG
from transfer.namm.features.spec import SPEC
from transfer.namm.network import NAMM
from transfer.namm.recency import recency_embedding
from transfer.namm.statistics import FeatureStatistics, normalised

CONFIGS = [
    NAMMConfig(),
    NAMMConfig(hidden=16, bias=False),
    NAMMConfig(features="log", hidden=8),
    NAMMConfig(scorer="mlp", hidden=12),
]


def _namm(config=CONFIGS[0], population=1, seed=0) -> NAMM:
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(population, config.size, generator=generator) * 0.3
    return NAMM(config, vector, torch.rand(17, generator=generator), torch.rand(17) + 0.5)


def _inputs(sequences, tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(sequences, tokens, 17, generator=generator)
    ages = torch.randint(1, 9, (sequences, tokens), generator=generator).cumsum(-1).flip(-1) - 1
    return features, ages


@pytest.mark.parametrize(
    ("config", "size"), list(zip(CONFIGS, [4172, 2026, 128 * 8 + 76, 27 * 12 + 1]))
)
def test_sizes(config, size):
    assert config.size == size
    assert NAMM(config).vector.shape == (1, size)


def test_zero_parameters_score_everything_zero():
    scores = NAMM(NAMMConfig()).score(*_inputs(3, 10))
    assert scores.shape == (3, 10)
    assert torch.equal(scores, torch.zeros(3, 10))


@pytest.mark.parametrize("config", CONFIGS)
def test_padding_on_the_old_side_changes_no_score(config):
    namm = _namm(config)
    features, age = _inputs(4, 20)
    padded = torch.cat([torch.full((4, 7, 17), 1e3), features], 1)
    padded_age = torch.cat([torch.full((4, 7), 12345), age], 1)
    scores = namm.score(padded, padded_age)[:, 7:]
    torch.testing.assert_close(scores, namm.score(features, age), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_population_rows_equal_one_by_one(config):
    namm = _namm(config, population=3)
    features, age = _inputs(6, 11)
    together = namm.score(features, age)
    for member in range(3):
        rows = slice(2 * member, 2 * member + 2)
        alone = NAMM(config, namm.vector[member], namm.mean, namm.std)
        alone = alone.score(features[rows], age[rows])
        torch.testing.assert_close(together[rows], alone, rtol=1e-5, atol=1e-6)


def test_sequences_must_divide_into_the_population():
    with pytest.raises(ValueError, match="4 sequences for a population of 3"):
        _namm(population=3).score(*_inputs(4, 5))


def test_float64_inputs_are_scored_in_float64():
    features, age = _inputs(2, 30)
    namm = _namm()
    exact = namm.score(features.double(), age)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(namm.score(features, age).double(), exact, rtol=1e-4, atol=1e-4)


def test_score_works_under_inference_mode_and_then_outside():
    namm = _namm()
    features, age = _inputs(2, 5)
    with torch.inference_mode():
        first = namm.score(features, age)
    assert torch.equal(first, namm.score(features, age))


def test_parameters_follow_the_inputs_to_their_device():
    namm = _namm(population=2)
    features, age = (x.to("meta") for x in _inputs(4, 5))
    assert namm.score(features, age).device.type == "meta"
    assert namm.vector.device.type == "cpu"
    assert namm.score(*_inputs(4, 5)).device.type == "cpu"


def test_age_changes_the_score_as_well_as_the_spectrogram():
    namm = _namm()
    features, age = _inputs(1, 6)
    assert not torch.equal(namm.score(features, age), namm.score(features, age + 1))
    assert not torch.equal(namm.score(features, age), namm.score(features + 0.1, age))


@given(st.integers(0, 2_000_000))
def test_recency_embedding_is_right_at_any_age(age):
    embedding = recency_embedding(torch.tensor([age]))[0]
    angles = [age * 50000 ** (-i / 4) for i in range(4)]
    expected = [math.sin(x) for x in angles] + [math.cos(x) for x in angles]
    torch.testing.assert_close(embedding, torch.tensor(expected), rtol=0, atol=1e-7)


def test_spec_features_are_standardised_with_a_floor_under_the_deviation():
    mean, std = torch.full((17,), 2.0), torch.full((17,), 4.0)
    std[3] = 0
    values = normalised(SPEC.transform(torch.full((1, 17), 3.0)), mean, std)[0]
    assert values[0] == 0.25
    assert values[3] == pytest.approx(1e7)


def test_log_features_are_standardised_logarithms():
    spectrogram = torch.tensor([[0.0] * 8 + [1.0] * 9])
    values = normalised(LOG.transform(spectrogram), torch.full((17,), 1.0), torch.ones(17))[0]
    assert values[0] == pytest.approx(math.log(1e-4) - 1)
    assert values[16] == pytest.approx(math.log(1 + 1e-4) - 1, abs=1e-6)
    assert torch.equal(spectrogram[0, :8], torch.zeros(8))


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    feature=st.sampled_from([SPEC, LOG]),
)
def test_merged_statistics_equal_those_of_all_tokens(sizes, feature):
    tokens = torch.rand(sum(sizes), 17, dtype=torch.float64)
    statistics = FeatureStatistics(feature.width)
    for batch in tokens.split(sizes):
        statistics.add(feature.transform(batch))
    values = (tokens + 1e-4).log() if feature is LOG else tokens
    assert statistics.count == len(tokens)
    torch.testing.assert_close(statistics.mean, values.mean(0), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        statistics.std, values.var(0, correction=0).sqrt(), rtol=1e-7, atol=1e-8
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"features": "spce"}, "did you mean spec"),
        ({"scorer": "bma"}, "did you mean bam"),
        ({"hidden": 0}, "hidden width 0"),
        ({"gamma": 1.0}, "gamma 1.0"),
        ({"gamma": float("nan")}, "gamma nan"),
    ],
)
def test_bad_configurations_are_named(fields, said):
    with pytest.raises(UserError, match=said):
        NAMMConfig(**fields)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((torch.zeros(4171),), "vector has 4171 numbers, its configuration needs 4172"),
        ((torch.zeros(4172), torch.zeros(1)), "mean has 1 numbers"),
        ((torch.zeros(4172), torch.zeros(17), torch.zeros(17) / 0), "std holds NaN"),
        ((torch.full((2, 4172), torch.inf),), "vector holds NaN or infinity"),
    ],
)
def test_numbers_that_do_not_fit_are_named(arguments, said):
    with pytest.raises(UserError, match=said):
        NAMM(NAMMConfig(), *arguments)

"""Vectors and NAMMs are two views of the same numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.evolution.genome import Genome
from transfer.namm.network import NAMM, NAMMConfig

CONFIG = NAMMConfig(hidden=2, gamma=0.95)
MEAN, STD = tuple(float(x) for x in range(17)), (2.0,) * 17


def test_a_namm_comes_back_from_its_vector():
    namm = NAMM(CONFIG, torch.randn(CONFIG.size), torch.randn(17), torch.rand(17))
    genome = Genome.of(namm, evolve_gamma=False)
    again = genome.namm(genome.vector(namm)[None])
    assert again.config == namm.config
    for name in ("vector", "mean", "std"):
        assert torch.equal(getattr(again, name), getattr(namm, name))


def test_the_start_is_zeros_with_the_statistics():
    start = Genome(CONFIG, MEAN, STD).start()
    assert not start.vector.any()
    assert start.mean.tolist() == list(MEAN)
    assert start.std.tolist() == list(STD)


@given(st.floats(-50, 50), st.sampled_from([0.5, 0.9, 0.99, 0.999]))
def test_a_searched_decay_moves_its_odds_by_at_most_ten(z, gamma):
    genome = Genome(NAMMConfig(hidden=2, gamma=gamma), MEAN, STD, evolve_gamma=True)
    moved = genome.namm(np.append(np.zeros(genome.size - 1), z)[None]).config.gamma
    odds = moved / (1 - moved) / (gamma / (1 - gamma))
    assert 0.0999 < odds < 10.01
    assert (moved > gamma) == (z > 0) or abs(z) < 1e-6


def test_a_searched_decay_starts_where_it_was_and_adds_one_number():
    genome = Genome(CONFIG, MEAN, STD, evolve_gamma=True)
    start = genome.vector(genome.start())
    assert start.shape == (CONFIG.size + 1,)
    assert genome.namm(start[None]).config.gamma == pytest.approx(0.95, abs=1e-12)
    assert not genome.together

"""Searches converge, replay to the bit, and leave the global random state alone."""

import numpy as np
import pytest

from transfer.errors import UserError
from transfer.evolution.search import (
    SEARCHES,
    Climb,
    Covariance,
    SearchSettings,
    fingerprint,
    make_search,
)

RANKING = [name for name in SEARCHES if name != "climb"]

SETTINGS = SearchSettings(population=10, sigma=0.5, seed=3)


def sphere(population):
    return -np.square(population - 1).sum(1)


def run(name, generations, params=12, settings=SETTINGS):
    search = make_search(name, np.zeros(params), settings)
    told = []
    for _ in range(generations):
        told.append(sphere(search.ask()))
        search.tell(told[-1])
    return search, told


@pytest.mark.parametrize("name", ["diagonal", "full", "isotropic"])
def test_converges_on_a_sphere(name):
    search, _ = run(name, 150)
    assert np.abs(search.mean - 1).max() < 1e-3
    assert search.sigma < 0.05


def test_random_search_keeps_the_best_it_ever_drew():
    search, told = run("random", 30)
    best = max(fitness.max() for fitness in told)
    assert sphere(search.mean[None])[0] == best
    assert sphere(np.zeros((1, 12)))[0] < best < -1e-3


@pytest.mark.parametrize("name", RANKING)
def test_replaying_the_fitnesses_asks_for_the_same_population(name):
    search, told = run(name, 25)
    again = make_search(name, np.zeros(12), SETTINGS)
    for fitness in told:
        # other code may draw from it in between
        np.random.standard_normal(7)  # noqa: NPY002
        again.ask()
        again.tell(fitness)
    assert again.mean.tobytes() == search.mean.tobytes()
    assert again.sigma == search.sigma
    assert fingerprint(again.ask()) == fingerprint(search.ask())


@pytest.mark.parametrize("name", RANKING)
def test_leaves_the_global_random_state_alone(name):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    run(name, 5)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("name", RANKING)
def test_seeds_differ(name):
    one = make_search(name, np.zeros(4), SETTINGS).ask()
    other = make_search(name, np.zeros(4), SearchSettings(population=10, sigma=0.5, seed=4)).ask()
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize("name", RANKING)
@pytest.mark.parametrize("population", [2, 3, 32])
def test_populations_have_their_size_and_spread(name, population):
    settings = SearchSettings(population=population, sigma=0.065)
    search = make_search(name, np.full(400, 2.0), settings)
    for _ in range(3):
        asked = search.ask()
        assert asked.shape == (population, 400)
        search.tell(np.arange(float(population)))
    first = make_search(name, np.full(400, 2.0), settings).ask()
    drawn = first[1:] if name == "random" else first
    assert np.std(drawn - 2) == pytest.approx(0.065, rel=0.1)


def test_the_full_covariance_has_the_papers_constants():
    strategy = Covariance(np.zeros(4172), SearchSettings(), diagonal=False)._strategy
    assert strategy.sp.weights.mueff == pytest.approx(9.17883, rel=1e-5)
    assert strategy.sp.c1 == pytest.approx(1.14834e-7, rel=1e-5)
    assert strategy.sp.cmu == pytest.approx(8.36604e-7, rel=0.04)
    assert strategy.adapt_sigma.cs == pytest.approx(2.67041e-3, rel=1e-3)
    assert strategy.adapt_sigma.damps == pytest.approx(1.00267, rel=1e-5)
    assert strategy.sp.cc == pytest.approx(9.58380e-4, rel=1e-4)
    assert strategy.sp.weights[0] == pytest.approx(0.19767, rel=1e-4)


def test_the_elite_is_what_the_mean_is_made_of():
    settings = SearchSettings(population=8, sigma=1.0, elite=0.125)
    search = make_search("isotropic", np.zeros(5), settings)
    asked = search.ask()
    search.tell(np.array([0, 1, 2, 9, 4, 5, 6, 7.0]))
    np.testing.assert_allclose(search.mean, asked[3], rtol=1e-12)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"population": 1}, "population of 1"),
        ({"sigma": 0.0}, "sigma 0.0"),
        ({"sigma": float("nan")}, "sigma nan"),
        ({"elite": 0.0}, "elite share 0.0"),
    ],
)
def test_refuses_settings_out_of_range(changes, words):
    with pytest.raises(UserError, match=words):
        SearchSettings(**changes)


def test_unknown_search_names_the_nearest():
    with pytest.raises(UserError, match="did you mean diagonal"):
        make_search("diagonl", np.zeros(3), SETTINGS)


def test_a_climb_goes_up_a_slope_and_its_steps_shrink():
    search = Climb(np.zeros(3), SearchSettings(sigma=0.1))
    top = np.array([0.5, -1.0, 0.0])
    steps, places = [], [np.zeros(3)]
    for _ in range(400):
        [vector] = search.ask()
        steps.append(search.sigma)
        search.follow(top - vector)
        places.append(search.ask()[0])
    assert search.ask()[0] == pytest.approx(top, abs=0.02)
    assert search.mean == pytest.approx(np.mean(places, 0))
    assert steps[0] < steps[19] > steps[399] > 0
    assert max(steps) <= 0.1
    with pytest.raises(ValueError, match="follows slopes"):
        search.tell(np.zeros(1))


def test_the_first_step_of_a_climb_is_of_one_size_whatever_the_slope():
    search = Climb(np.zeros(2), SearchSettings(sigma=0.1))
    search.follow(np.array([1e-3, -1e3]))
    assert search.ask()[0] == pytest.approx([0.1 / 20, -0.1 / 20], rel=1e-4)
    assert search.mean == pytest.approx(search.ask()[0] / 2)

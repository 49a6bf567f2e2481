import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from played import expert, play, steps, wrong
from popgym.envs.concentration import ConcentrationEasy, ConcentrationHard, ConcentrationMedium
from popgym.envs.repeat_previous import (
    RepeatPreviousEasy,
    RepeatPreviousHard,
    RepeatPreviousMedium,
)

from transfer.envs.environment import environment, make_env
from transfer.envs.memory.popgym import Autoencode, Concentration, RepeatPrevious
from transfer.errors import UserError

LEVELS = ("easy", "medium", "hard")
LAGS = {"easy": 3, "medium": 31, "hard": 63}
DECKS = {"easy": 1, "medium": 2, "hard": 3}


@pytest.mark.parametrize(
    ("name", "sizes", "horizons"),
    [
        ("repeat-previous", (4, 4), (51, 103, 155)),
        ("autoencode", (6, 4), (103, 207, 311)),
        ("concentration", (156, 52), (104, 208, 104)),
    ],
)
def test_named_ones_are_plain_environments_of_three_levels(name, sizes, horizons):
    found = environment(name)
    assert (found.sizes, found.choices) == (sizes, sizes[1:])
    assert (found.metric, found.extra) == ("success", "memory")
    assert tuple(environment(f"{name}:level={level}").horizon for level in LEVELS) == horizons
    assert found.horizon == horizons[0]
    env = gymnasium.make(found.id, disable_env_checker=True).unwrapped
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("game", [RepeatPrevious, Autoencode])
def test_the_expert_is_always_right_and_its_opposite_never(game, level):
    env = game(level=level)
    _, infos, rewards, terminated = play(env, 3, expert)
    assert (infos[-1]["success"], sum(rewards)) == (1.0, pytest.approx(1.0))
    assert (len(rewards), terminated) == (env.horizon, True)
    asked = len(steps(infos, "recall"))
    _, infos, rewards, _ = play(env, 3, wrong)
    # The last card of Autoencode is in sight when it is asked for.
    seen = int(game is Autoencode)
    assert infos[-1]["success"] == seen / (asked + seen)
    assert sum(rewards) == pytest.approx(2 * infos[-1]["success"] - 1)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_repeated_was_shown_so_long_ago(level):
    env, lag = RepeatPrevious(level=level), LAGS[level]
    answers = []
    act = lambda env: answers.append(expert(env)) or answers[-1]  # noqa: E731
    observations, infos, _, _ = play(env, 0, act)
    np.testing.assert_array_equal(answers[lag:], observations[:-lag])
    assert steps(infos, "recall") == list(range(lag, env.horizon))
    assert steps(infos, "cue") == list(range(env.horizon - lag))


@pytest.mark.parametrize("level", LEVELS)
def test_what_was_watched_is_said_backwards(level):
    env = Autoencode(level=level)
    answers = []
    act = lambda env: answers.append(expert(env)) or answers[-1]  # noqa: E731
    observations, infos, _, _ = play(env, 0, act)
    cards = 52 * DECKS[level]
    np.testing.assert_array_equal(answers[cards - 1 :], observations[cards - 1 :: -1, 1])
    assert steps(infos, "cue") == list(range(cards - 1))
    assert steps(infos, "recall") == list(range(cards, 2 * cards - 1))


@pytest.mark.parametrize("game", [RepeatPrevious, Autoencode])
def test_without_a_memory_it_is_chance(game):
    successes = [play(game(), seed, lambda env: 2)[1][-1]["success"] for seed in range(20)]
    assert np.mean(successes) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("level", LEVELS)
def test_the_expert_of_concentration_finds_all_pairs_by_what_it_saw(level):
    env = Concentration(level=level)
    for seed in range(4):
        _, infos, rewards, terminated = play(env, seed, expert)
        assert (infos[-1]["success"], terminated) == (1.0, True)
        assert sum(rewards) > (0.6 if level == "hard" else 0.75)
        _, infos, _, terminated = play(env, seed, wrong)
        assert (infos[-1]["success"] < 0.3, terminated) == (True, False)


@settings(max_examples=15)
@given(st.sampled_from(LEVELS), st.integers(0, 10**6), st.booleans())
def test_concentration_is_remembered_from_observations_alone(level, seed, mistaken):
    env = Concentration(level=level)
    rng = np.random.default_rng(seed)
    known = {}

    def act(env):
        shown = {card: env.obs[card] for card in np.flatnonzero(env.obs != env.facedown_card)}
        found = set(env.deck["face_up_idx"])
        new = {card for card in shown if card not in known and card not in found}
        assert marks[-1]["cue"] == bool(new)
        known.update(shown)
        turned = env.deck["in_play_idx"]
        likes = [
            card
            for card, value in known.items()
            if turned and value == known[turned[0]] and card not in {*found, turned[0]}
        ]
        assert marks[-1]["recall"] == bool(likes)
        if likes:
            assert expert(env) in likes
            assert wrong(env) not in likes
        else:
            assert wrong(env) == expert(env)
        return int(rng.integers(env.action_space.n)) if mistaken else expert(env)

    _, info = env.reset(seed=seed)
    marks, over = [info], False
    while not over:
        _, _, ended, cut, info = env.step(act(env))
        marks.append(info)
        over = ended or cut


@pytest.mark.parametrize(
    ("game", "plain"),
    [
        (RepeatPrevious, (RepeatPreviousEasy, RepeatPreviousMedium, RepeatPreviousHard)),
        (Concentration, (ConcentrationEasy, ConcentrationMedium, ConcentrationHard)),
    ],
)
def test_levels_are_popgyms(game, plain):
    for level, theirs in zip(LEVELS, plain):
        ours, other = game(level=level), theirs()
        assert ours.action_space == other.action_space
        ours.action_space.seed(0)
        one, two = ours.reset(seed=5), other.reset(seed=5)
        for _ in range(60):
            np.testing.assert_array_equal(one[0], two[0])
            assert one[1:4] == two[1:4] or len(one) == 2
            if len(one) > 2 and (one[2] or one[3]):
                break
            action = ours.action_space.sample()
            one, two = ours.step(action), other.step(action)


def test_as_vectors_it_is_the_same():
    env, plain = make_env("autoencode"), Autoencode()
    card = plain.reset(seed=2)[0][1]
    np.testing.assert_array_equal(env.reset(seed=2)[0], [0, 1, *np.eye(4)[card]])
    for _ in range(102):
        ours, theirs = env.step(np.eye(4)[2]), plain.step(2)
        assert ours[1:] == theirs[1:]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("level=eazy", "unknown level 'eazy'; did you mean easy"),
        ("decks=2", "unknown setting 'decks'; known: level"),
    ],
)
def test_settings_that_make_no_game(said, sentence):
    with pytest.raises(UserError, match=sentence):
        environment(f"autoencode:{said}")


@pytest.mark.parametrize("game", [RepeatPrevious, Concentration])
def test_actions_outside_their_space_are_refused(game):
    env = game()
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"action is 52; use one of Discrete\("):
        env.step(52)

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from played import expert, play, wrong

from transfer.envs.environment import environment, make_env
from transfer.envs.memory import corridor, drawing
from transfer.envs.memory.corridor import FORWARD, LADDER, LEFT, RIGHT, Corridor, Plan
from transfer.errors import UserError

TASKS = {
    "tmaze": {},
    "gates": {"kinds": 4, "gates": 0.25, "early": 0.3, "decoys": 0},
    "gates4": {"kinds": 4, "gates": 6, "decoys": 0},
}


@pytest.mark.parametrize("task", TASKS)
def test_a_named_one_is_a_plain_environment_with_three_actions(task):
    found = environment(task)
    env = gymnasium.make(found.id, disable_env_checker=True).unwrapped
    assert env.plan == Plan(**TASKS[task])
    assert (found.choices, found.metric, found.targets, found.horizon) == (
        (3,),
        "success",
        (1.0,),
        200,
    )
    assert found.sizes == (env.plan.width, 3)
    check_env(env)


def test_the_longest_episode_follows_the_length():
    assert environment("tmaze:length=400").horizon == 800
    assert environment("tmaze").horizon == 200


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_succeeds_and_its_opposite_fails(task):
    env = Corridor(**TASKS[task])
    for seed in range(20):
        _, infos, rewards, terminated = play(env, seed, expert)
        assert (len(rewards), terminated) == (100, True)
        assert (infos[-1]["success"], sum(rewards)) == (1.0, pytest.approx(1.0))
        _, infos, rewards, terminated = play(env, seed, wrong)
        assert (infos[-1]["success"], sum(rewards), terminated) == (0.0, 0.0, True)
        assert len(rewards) == 100


@pytest.mark.parametrize("task", TASKS)
def test_without_a_memory_it_is_chance(task):
    env = Corridor(**TASKS[task])
    lefts = [
        play(env, seed, lambda env: LEFT if expert(env) != FORWARD else FORWARD)[1][-1]["success"]
        for seed in range(200)
    ]
    assert np.mean(lefts) == pytest.approx(0.5, abs=0.08)


@given(
    st.fixed_dictionaries(
        {
            "length": st.integers(30, 120),
            "kinds": st.integers(1, 4),
            "repeats": st.integers(0, 1),
            "gates": st.sampled_from([1, 3, 0.2]),
            "early": st.sampled_from([0.3, 0.5]),
            "decoys": st.sampled_from([None, 0, 7]),
        }
    ),
    st.integers(0, 10**6),
)
def test_any_corridor_is_answered_from_what_it_showed(settings, seed):
    env = Corridor(**settings)
    observations, infos, _, _ = play(env, seed, expert)
    script, kinds = env.script, settings["kinds"]
    shown = observations[:, 1 + kinds : 1 + 2 * kinds]
    assert all(row in env.observation_space for row in observations)
    gates = np.flatnonzero(script.actions != FORWARD)
    count = settings["gates"]
    assert len(gates) == (count if count >= 1 else int(count * settings["length"]))
    assert gates[-1] == settings["length"] - 1
    np.testing.assert_array_equal(np.flatnonzero(observations[:, 0]), gates)
    early = int(settings["early"] * settings["length"])
    assert np.flatnonzero(shown.any(1)).max() < early <= gates.min()
    for gate in gates:
        [kind] = np.flatnonzero(observations[gate, 1 : 1 + kinds])
        last = np.flatnonzero(shown[:gate, kind])[-1]
        assert script.actions[gate] == (LEFT if shown[last, kind] == 1 else RIGHT)
        assert infos[last]["cue"]
    assert (shown != 0).sum() == kinds * (1 + settings["repeats"])
    decoys = observations[:, 1 + 2 * kinds : -2]
    expected = {None: 6, 0: 0, 7: 7}[settings["decoys"]]
    assert (decoys != 0).sum() == min(expected, settings["length"] // 4)
    assert ((observations[:, :-2] != 0).sum(1) <= 2).all()


@pytest.mark.parametrize("task", TASKS)
def test_nothing_but_the_cue_tells_its_value(task, monkeypatch):
    env, plain = Corridor(**TASKS[task]), corridor._values
    one, infos, _, _ = play(env, 5, expert)
    right = env.script.actions
    monkeypatch.setattr(corridor, "_values", lambda rng, keys: -plain(rng, keys))
    other, _, _, _ = play(env, 5, expert)
    gates = right != FORWARD
    np.testing.assert_array_equal(env.script.actions[gates], LEFT + RIGHT - right[gates])
    differing = (one != other).any(1)
    np.testing.assert_array_equal(differing, [info["cue"] for info in infos[:-1]])
    assert differing.sum() == env.plan.kinds


def test_marks_say_where_a_key_and_where_a_gate_is_seen():
    env = Corridor(**TASKS["gates4"], length=24)
    _, infos, _, _ = play(env, 0, expert)
    assert [info["cue"] for info in infos] == [*env.script.cues, False]
    assert [info["recall"] for info in infos] == [*(env.script.actions != FORWARD), False]
    assert ["success" in info for info in infos] == [False] * 24 + [True]


def test_overwritten_keys_are_no_cues():
    env = Corridor(kinds=2, repeats=2, gates=4, length=40)
    observations, infos, _, _ = play(env, 3, expert)
    shown = observations[:, 3:5]
    last = [np.flatnonzero(shown[:, kind])[-1] for kind in range(2)]
    assert (shown != 0).sum() == 6
    assert np.flatnonzero([info["cue"] for info in infos]).tolist() == sorted(last)


def test_the_cue_of_the_maze_is_anywhere_in_the_first_half():
    env = Corridor()
    cells = [np.flatnonzero(play(env, seed, expert)[0][:, 2])[0] for seed in range(250)]
    assert (min(cells), max(cells)) == (0, 49)
    assert np.mean(cells) == pytest.approx(24.5, abs=2)


def test_the_same_seed_is_the_same_episode():
    one, other = Corridor(), Corridor()
    np.testing.assert_array_equal(play(one, 7, expert)[0], play(other, 7, expert)[0])
    assert (play(one, 7, expert)[0] != play(other, 8, expert)[0]).any()


def test_a_turn_in_a_plain_cell_moves_nobody_and_the_end_comes_at_twice_the_cells():
    env = Corridor(length=6)
    observations, infos, rewards, terminated = play(env, 0, lambda env: LEFT)
    assert (len(rewards), terminated, infos[-1]["success"]) == (12, False, 0.0)
    assert (observations == observations[0]).all()
    assert not any(info["cue"] for info in infos[1:])
    _, infos, rewards, terminated = play(env, 0, lambda env: FORWARD)
    assert (len(rewards), terminated, infos[-1]["success"]) == (6, True, 0.0)


def test_success_is_the_share_of_gates():
    env = Corridor(**TASKS["gates4"])
    env.reset(seed=0)
    half = iter([True, False] * 3)
    act = lambda env: env.expert(wrong=expert(env) != FORWARD and next(half))  # noqa: E731
    _, infos, rewards, _ = play(env, 0, act)
    assert infos[-1]["success"] == pytest.approx(sum(rewards)) == 0.5


def test_lengths_come_from_the_ladder():
    env = Corridor(length=100, shortest=10)
    found = {len(play(env, seed, expert)[0]) for seed in range(200)}
    assert found == {10, *(one for one in LADDER if 10 < one <= 100)}
    assert Plan(length=70, shortest=64).lengths == (64, 70)
    assert Plan(length=70).lengths == (70,)


def test_as_vectors_it_is_the_same():
    env, plain = make_env("gates:length=24"), Corridor(**TASKS["gates"], length=24)
    for name, info in (("vectors", env.reset(seed=2)), ("plain", plain.reset(seed=2))):
        assert set(info[1]) == {"cue", "recall"}, name
    for action in (0, 0, 1, 0, 2):
        ours, theirs = env.step(np.eye(3)[action]), plain.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]


def test_pictures_show_what_the_cells_show_and_the_agent():
    env = Corridor(**TASKS["gates4"], length=100, render_mode="rgb_array")
    env.reset(seed=0)
    shown, script = env.shown, env.script
    np.testing.assert_array_equal(shown == drawing.GATE, script.actions != FORWARD)
    keys = np.isin(shown, (drawing.KEY_HIGH, drawing.KEY_LOW))
    np.testing.assert_array_equal(keys, script.cues)
    before = env.render()
    assert (before.shape, before.dtype) == ((24, 960, 3), np.uint8)
    assert len(np.unique(before[1, 1::12], axis=0)) == len(np.unique(shown))
    env.step(FORWARD)
    changed = np.flatnonzero((env.render() != before).any((0, 2)))
    assert (changed.min(), changed.max()) == (4, 19)
    play(env, 0, expert)
    assert (env.render()[12:, 19 * 12 + 5] == 0).all(1).any()


def test_decoys_are_shown_as_such():
    env = Corridor()
    env.reset(seed=1)
    assert (env.shown == drawing.DECOY).sum() == 6


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("tmaze:length=1", "length is 1; use 2 or more"),
        ("tmaze:length=100_000", "length is 100000; use at most 10,000"),
        ("tmaze:shortest=0", "0 cells shows keys in 0 and has gates in the other 0, too few"),
        ("tmaze:shortest=200", "shortest is 200, and length 100; use at most that"),
        ("tmaze:kinds=0", "kinds is 0; use 1 or more"),
        ("tmaze:repeats=-1", "repeats is -1; use 0 or more"),
        ("tmaze:decoys=26", "decoys is 26; use at most 25"),
        ("tmaze:gates=1.5", "gates is 1.5; use a whole number, or a share above 0 and below 1"),
        ("tmaze:gates=0", "gates is 0; use a whole number"),
        ("tmaze:early=1", "early is 1; use a share above 0 and below 1"),
        ("gates:length=8", "8 cells shows keys in 2 and has gates in the other 6, too few for 4"),
        ("gates4:shortest=6", "6 cells shows keys in 3 and .* for 4 and 6; use longer corridors"),
        ("tmaze:colour=3", "unknown setting 'colour'; known: decoys, early, gates, kinds, length"),
    ],
)
def test_settings_that_make_no_corridor(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        environment(settings)


@pytest.mark.parametrize("action", [3, -1, np.int64(7)])
def test_there_are_three_actions(action):
    env = Corridor()
    env.reset(seed=0)
    with pytest.raises(UserError, match=rf"action is {action}; use 0 \(forward\), 1"):
        env.step(action)

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from minigrid.core.constants import OBJECT_TO_IDX
from played import expert, play, steps, wrong

from transfer.envs.environment import environment, make_env
from transfer.envs.memory import minigrid
from transfer.envs.memory.minigrid import FORWARD, LADDER, LEFT, RIGHT, MiniGridMemory, Sizes
from transfer.errors import UserError


def test_the_named_one_is_a_plain_environment_with_three_actions():
    found = environment("minigrid-memory")
    assert (found.sizes, found.choices, found.metric) == ((151, 3), (3,), "success")
    assert (found.horizon, environment("minigrid-memory:size=13").horizon) == (124, 52)
    check_env(gymnasium.make(found.id, disable_env_checker=True).unwrapped, skip_render_check=True)


def test_it_is_minigrids_own():
    ours, theirs = MiniGridMemory(size=13), gymnasium.make("MiniGrid-MemoryS13-v0").unwrapped
    for seed in range(6):
        actions = np.random.default_rng(seed).integers(3, size=52)
        observation, _ = ours.reset(seed=seed)
        plain, _ = theirs.reset(seed=seed)
        for action in actions:
            view = [plain["image"][..., 0] == OBJECT_TO_IDX[one] for one in ("wall", "key", "ball")]
            np.testing.assert_array_equal(observation[:147], np.stack(view, -1).ravel())
            np.testing.assert_array_equal(observation[147:], np.eye(4)[plain["direction"]])
            observation, *outcome = ours.step(action)
            plain, *expected = theirs.step(action)
            assert outcome[:2] == expected[:2]
            if outcome[1]:
                break


@pytest.mark.parametrize("size", [7, 9, 13, 31])
def test_the_expert_succeeds_and_its_opposite_fails(size):
    env = MiniGridMemory(size=size)
    for seed in range(25):
        observations, infos, rewards, terminated = play(env, seed, expert)
        assert (infos[-1]["success"], terminated) == (1.0, True)
        assert sum(rewards) == pytest.approx(1 - 0.9 * len(rewards) / (5 * size**2))
        assert len(rewards) <= 2 * size
        other, infos, rewards, terminated = play(env, seed, wrong)
        assert (infos[-1]["success"], sum(rewards), terminated) == (0.0, 0.0, True)
        assert len(other) == len(observations)


def test_without_a_memory_it_is_chance():
    env = MiniGridMemory(size=9)
    lefts = [
        play(env, seed, lambda env: LEFT if env._marks()["recall"] else expert(env))[1][-1]
        for seed in range(200)
    ]
    assert np.mean([info["success"] for info in lefts]) == pytest.approx(0.5, abs=0.08)


def test_the_cue_is_the_first_sight_of_the_rooms_object_and_long_before_the_turn():
    env = MiniGridMemory(size=31)
    starts = []
    for seed in range(40):
        observations, infos, _, _ = play(env, seed, expert)
        [cue], [turn] = steps(infos, "cue"), steps(infos, "recall")
        things = observations[:, :147].reshape(-1, 49, 3)[..., 1:]
        # A key comes before a ball.
        np.testing.assert_array_equal(things[cue].sum(0), np.eye(2)[int(env._objects[0] == "ball")])
        assert turn - cue > 20
        assert turn == len(observations) - 2
        starts.append(cue)
    assert max(starts) - min(starts) > 15


@pytest.mark.parametrize("size", [7, 31])
def test_objects_at_the_end_that_are_seen_first_are_no_cue(size):
    env = MiniGridMemory(size=size)
    early = 0
    for seed in range(25):
        observations, infos, _, _ = play(env, seed, expert)
        [cue] = steps(infos, "cue")
        early += observations[:cue, :147].reshape(-1, 49, 3)[..., 1:].any()
    assert early > 0


def test_only_the_cue_tells_where_to_turn():
    env = MiniGridMemory(size=31)
    found = {}
    for seed in range(120):
        observations, _, _, _ = play(env, seed, expert)
        start, room, end = len(observations), *env._objects
        found.setdefault((start, end), {})[room] = observations
    pairs = [pair for pair in found.values() if len(pair) == 2]
    assert len(pairs) > 10
    for pair in pairs:
        key, ball = pair["key"], pair["ball"]
        differing = np.flatnonzero((key != ball).any(1))
        # From the room on; the last step is behind the turn, to different sides.
        assert differing[-1] == len(key) - 1
        assert len(key) - 1 - differing[-2] > 20


def test_the_same_seed_is_the_same_episode():
    one, other = MiniGridMemory(size=21), MiniGridMemory(size=21)
    np.testing.assert_array_equal(play(one, 7, expert)[0], play(other, 7, expert)[0])


def test_views_that_are_kept_are_those_that_are_computed(monkeypatch):
    env = MiniGridMemory(shortest=9, size=21)
    kept = [play(env, seed, expert)[0] for seed in range(10)]
    monkeypatch.setattr(minigrid, "_VIEWS", {})
    for seed, observations in enumerate(kept):
        monkeypatch.setattr(minigrid, "_VIEWS", {})
        np.testing.assert_array_equal(play(env, seed, expert)[0], observations)
        observations[:] = 7
    assert play(env, 0, expert)[0].max() == 1


def test_sizes_come_from_the_ladder():
    env = MiniGridMemory(size=31, shortest=9)
    found = {(env.reset(seed=seed), env.width)[1] for seed in range(60)}
    assert found == {size for size in LADDER if size <= 31}
    assert (env.horizon, Sizes(size=33, shortest=31).all) == (124, (31, 33))


def test_an_episode_is_cut_at_four_times_its_size():
    env = MiniGridMemory(size=9)
    _, infos, rewards, terminated = play(env, 0, lambda env: LEFT)
    assert (len(rewards), terminated, infos[-1]["success"]) == (36, False, 0.0)


@settings(max_examples=20)
@given(st.sampled_from([7, 9, 13]), st.integers(0, 10**6))
def test_the_expert_finds_its_way_from_anywhere(size, seed):
    env, rng = MiniGridMemory(size=size), np.random.default_rng(seed)
    env.reset(seed=seed)
    info = {}
    for _ in range(size):
        at_end = env._place[0] == size - 2
        _, _, ended, _, info = env.step(expert(env) if at_end else rng.integers(3))
        if ended:
            assert info["success"] == 1.0
            return
    while not (ended or env.step_count > 3.5 * size):
        _, _, ended, _, info = env.step(expert(env))
    assert ended
    assert info["success"] == 1.0


def test_it_renders_as_minigrid_does():
    env = make_env("minigrid-memory:size=9", render_mode="rgb_array")
    env.reset(seed=0)
    frame = env.render()
    assert (frame.shape, frame.dtype) == ((288, 288, 3), np.uint8)
    env.close()


def test_as_vectors_it_is_the_same():
    env, plain = make_env("minigrid-memory:size=9"), MiniGridMemory(size=9)
    np.testing.assert_array_equal(env.reset(seed=2)[0], plain.reset(seed=2)[0])
    for action in (RIGHT, RIGHT, FORWARD, LEFT):
        ours, theirs = env.step(np.eye(3)[action]), plain.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("size=8", "size is 8; use an odd number, as 9"),
        ("size=5", "size is 5; use 7 or more"),
        ("size=1001", "size is 1001; use at most 999"),
        ("shortest=12", "shortest is 12; use an odd number, as 13"),
        ("size=9,shortest=13", "shortest is 13, and size 9; use at most that"),
        ("length=9", "unknown setting 'length'; known: shortest, size"),
    ],
)
def test_settings_that_make_no_grid(said, sentence):
    with pytest.raises(UserError, match=sentence):
        environment(f"minigrid-memory:{said}")


def test_there_are_three_actions():
    env = MiniGridMemory()
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"action is 3; use 0 \(left\), 1 \(right\) or 2"):
        env.step(3)


@pytest.mark.parametrize("upper", ["key", "ball"])
def test_one_object_may_always_lie_up(upper):
    env, goals = MiniGridMemory(size=9, upper=upper), set()
    for seed in range(20):
        env.reset(seed=seed)
        assert env.grid.get(7, 2).type == upper
        goals.add((env.grid.get(1, 3).type == upper, env.success_pos[1] < 4))
    assert goals == {(True, True), (False, False)}
    with pytest.raises(UserError, match="upper is 'door'; use key or ball, or leave it out"):
        Sizes(upper="door")

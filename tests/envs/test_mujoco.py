import subprocess
import sys

import numpy as np
import pytest

from transfer.envs.mujoco import diverged, env_id, env_name, make_envs
from transfer.errors import UserError


def play(env, seed, steps=200):
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, *env.action_space.shape))
    state, _ = env.reset(seed=seed)
    states, total = [state], 0.0
    for action in actions:
        state, reward, terminated, truncated, _ = env.step(action)
        states.append(state)
        total += float(reward)
        if terminated or truncated:
            break
    return np.array(states), total


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("hopper", "v4", "Hopper-v4"),
        ("halfcheetah", "v5", "HalfCheetah-v5"),
        ("Walker2d", "v4", "Walker2d-v4"),
        ("hopper-v5", "v4", "Hopper-v5"),
    ],
)
def test_short_names_become_ids(name, version, expected):
    assert env_id(name, version) == expected


def test_env_name_accepts_ids_and_dataset_names():
    assert [env_name(name) for name in ("Hopper-v4", "walker2d-medium-v2", "halfcheetah")] == [
        "hopper",
        "walker2d",
        "halfcheetah",
    ]


def test_unknown_environment_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown environment 'hoper'; did you mean hopper\?"):
        env_id("hoper")
    with pytest.raises(UserError, match="unknown environment 'ant-medium-v2'"):
        env_name("ant-medium-v2")


@pytest.mark.parametrize(
    ("name", "version"), [("hopper", "v2"), ("hopper", "v3"), ("hopper-v2", "v4")]
)
def test_old_versions_are_refused_with_the_remedy(name, version):
    with pytest.raises(UserError, match=r"mujoco-py.*use v4"):
        env_id(name, version)


@pytest.mark.parametrize("name", ["hopper", "walker2d"])
def test_v4_gives_the_same_episode_twice(name):
    first, second = make_envs(name, 2)
    states, total = play(first, seed=3)
    again, total_again = play(second, seed=3)
    np.testing.assert_array_equal(states, again)
    assert total == total_again
    assert play(first, seed=4)[1] != total


def test_v5_pays_one_less_on_the_terminal_step():
    _, v4 = play(*make_envs("hopper", 1), seed=0)
    _, v5 = play(*make_envs("hopper", 1, "v5"), seed=0)
    assert v4 - v5 == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("name", ["hopper", "halfcheetah"])
def test_making_v4_says_nothing_and_leaves_no_log(name, recwarn, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_envs(name, 2)
    assert not recwarn.list
    assert capfd.readouterr().err == ""
    assert not list(tmp_path.iterdir())


def test_only_the_first_environment_renders():
    first, second = make_envs("hopper", 2, video=True)
    assert (first.render_mode, second.render_mode) == ("rgb_array", None)


def test_at_least_one_environment():
    with pytest.raises(UserError, match="0 environments"):
        make_envs("hopper", 0)


def test_divergence_is_noticed_until_the_next_reset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [env] = make_envs("hopper", 1)
    env.reset(seed=0)
    env.step(np.zeros(3))
    assert not diverged(env)
    env.unwrapped.data.qvel[:] = np.nan
    env.step(np.zeros(3))
    assert diverged(env)
    env.reset(seed=0)
    assert not diverged(env)


def test_headless_rendering_chooses_egl_only_without_a_display_or_a_choice():
    program = (
        "import os, sys; from transfer.envs.mujoco import use_headless_rendering as use;"
        "assert 'mujoco' not in sys.modules; use(); print(os.environ.get('MUJOCO_GL'))"
    )

    def chosen(**environment):
        run = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return run.stdout.strip()

    expected = "egl" if sys.platform == "linux" else "None"
    assert chosen() == expected
    assert chosen(DISPLAY=":0") == "None"
    assert chosen(MUJOCO_GL="osmesa") == "osmesa"

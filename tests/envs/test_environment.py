import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from transfer import register
from transfer.envs.environment import (
    Environment,
    env_id,
    env_name,
    environment,
    make_envs,
    parted,
)
from transfer.envs.mujoco import diverged
from transfer.errors import UserError
from transfer.plugins import ENVIRONMENTS


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
        ("hopper", None, "Hopper-v4"),
        ("hopper-v5", None, "Hopper-v5"),
        ("Hopper-V5", "v5", "Hopper-v5"),
        ("hopper-medium-v2", "v5", "Hopper-v5"),
    ],
)
def test_short_names_become_ids(name, version, expected):
    assert env_id(name, version) == expected
    found = environment(name, version)
    assert environment(found.spelled) == found


@pytest.mark.parametrize(
    ("name", "version", "sentence"),
    [
        ("hopper-v5", "v4", "hopper-v5 is of version v5, not v4; leave one of the two out"),
        ("Hopper-v4", "v5", "Hopper-v4 is of version v4, not v5"),
        ("tmaze", "v4", "tmaze has no version v4, which hopper, halfcheetah, walker2d alone have"),
        ("CartPole-v1", "v5", "CartPole-v1 has no version v5"),
    ],
)
def test_versions_that_contradict_the_name_are_refused(name, version, sentence):
    with pytest.raises(UserError, match=sentence):
        environment(name, version)


def test_env_name_accepts_ids_and_dataset_names():
    assert [env_name(name) for name in ("Hopper-v4", "walker2d-medium-v2", "halfcheetah")] == [
        "hopper",
        "walker2d",
        "halfcheetah",
    ]


def test_unknown_environment_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown environment 'hoper'; did you mean hopper\?"):
        env_id("hoper")
    with pytest.raises(UserError, match="'Pendulum'; did you mean Pendulum-v1 or"):
        env_id("Pendulum")
    with pytest.raises(UserError, match="unknown environment 'ant-medium-v2'"):
        env_name("ant-medium-v2")


def test_scores_of_known_returns():
    for name, random, expert in (
        ("hopper", -20.272305, 3234.3),
        ("halfcheetah", -280.178953, 12135.0),
        ("walker2d", 1.629008, 4592.3),
    ):
        assert environment(name).metric == "d4rl_score"
        assert environment(name).score(random) == 0.0
        assert environment(name).score(expert) == pytest.approx(100.0)
    assert environment("hopper").score(3000.0) == pytest.approx(92.801, abs=1e-3)
    assert environment("Hopper-v4").score(1404.0) == pytest.approx(43.76, abs=0.01)
    scores = environment("hopper-medium-v2").score(np.array([2977.0, 414.0]))
    np.testing.assert_allclose(scores, [92.09, 13.34], atol=0.01)


def test_any_id_of_gymnasium_with_vectors_is_scored_by_its_returns():
    found = environment("Pendulum-v1")
    assert (found.id, found.name, found.horizon, found.sizes) == (
        "Pendulum-v1",
        "Pendulum-v1",
        200,
        (3, 1),
    )
    assert (found.metric, found.score(-120.0)) == ("return", -120.0)
    [env] = make_envs(found, 1)
    assert play(env, seed=0)[0].shape == (201, 3)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "Words-v0",
            "Words-v0 cannot be taken: a Text has no fixed number of numbers; use",
        ),
        (
            "Parts-v0",
            "Parts-v0 cannot be taken: actions in a Dict cannot be taken; use Box",
        ),
        ("Toy-v0:size=3", r"Toy-v0:size=3 cannot be made \(TypeError: .*'size'"),
        ("Broken-v0", r"Broken-v0 cannot be made \(RuntimeError: no display\); install"),
    ],
)
def test_environments_that_cannot_be_taken(name, sentence):
    with pytest.raises(UserError, match=sentence):
        environment(name)


class Toy(gymnasium.Env):
    """A point that is pushed to and fro, in so many axes."""

    def __init__(self, shape=(2,), observations=None, actions=None, render_mode=None):
        self.observation_space = observations or gymnasium.spaces.Box(-9, 9, shape)
        self.action_space = actions or gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=self.observation_space.shape)
        return self.state, {}

    def step(self, action):
        self.state = self.state + action[0]
        return self.state, -float(abs(self.state).sum()), False, False, {}


def broken(**settings):
    raise RuntimeError("no display")


@pytest.fixture(autouse=True, scope="module")
def _toys():
    settings = {"disable_env_checker": True, "order_enforce": False}
    gymnasium.register("Toy-v0", Toy, max_episode_steps=7, **settings)
    words, parts = gymnasium.spaces.Text(3), gymnasium.spaces.Dict(a=gymnasium.spaces.Discrete(2))
    gymnasium.register("Words-v0", Toy, kwargs={"observations": words}, **settings)
    gymnasium.register("Parts-v0", Toy, kwargs={"actions": parts}, **settings)
    gymnasium.register("Broken-v0", broken, **settings)
    yield
    for name in ("Toy-v0", "Words-v0", "Parts-v0", "Broken-v0"):
        del gymnasium.registry[name]


@pytest.fixture
def _forgotten():
    yield
    ENVIRONMENTS._registered.clear()


@pytest.mark.usefixtures("_forgotten")
def test_one_from_this_process():
    register("environment", "toy", Environment("Toy-v0", random=-100.0, expert=0.0))
    found = environment("toy")
    assert (found.name, found.id, found.metric) == ("toy", "Toy-v0", "d4rl_score")
    assert (found.score(-50.0), environment("Toy-v0").horizon) == (50.0, 7)
    assert len(make_envs("toy", 2)) == 2
    register("environment", "gone", Environment("Gone-v0"))
    with pytest.raises(UserError, match="unknown environment 'Gone-v0'"):
        environment("gone")


def test_one_of_a_module_in_this_folder(tmp_path, monkeypatch):
    (tmp_path / "my_worlds.py").write_text(
        "import gymnasium\n"
        "from transfer import Environment\n"
        "gymnasium.register('Mine-v0', 'gymnasium.envs.classic_control:PendulumEnv')\n"
        "MINE = Environment('Mine-v0', horizon=20)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert environment("my_worlds:MINE") == Environment(
        "Mine-v0", horizon=20, name="my_worlds:MINE"
    )
    assert environment("my_worlds:Mine-v0").id == "my_worlds:Mine-v0"
    assert make_envs("my_worlds:Mine-v0", 1)[0].observation_space.shape == (3,)
    with pytest.raises(UserError, match="environment 'my_world:Mine-v0' cannot be imported"):
        environment("my_world:Mine-v0")
    del gymnasium.registry["Mine-v0"]


@pytest.mark.parametrize("settings", [{"random": 1.0}, {"random": 2.0, "expert": 1.0}])
def test_references_that_make_no_score(settings):
    with pytest.raises(UserError, match="give two returns, expert above random, or neither"):
        Environment("Hopper-v4", **settings)


@pytest.mark.parametrize(
    ("name", "version"), [("hopper", "v2"), ("hopper", "v3"), ("hopper-v2", None)]
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


def test_one_that_draws_no_pictures_is_refused_as_such():
    with pytest.raises(UserError, match=r"Toy-v0 draws no pictures \(rgb_array\); leave out --vid"):
        make_envs("Toy-v0", 1, video=True)


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


def test_settings_may_be_lists():
    assert Environment("Toy-v0", settings={"shape": [3]}).sizes == (3, 1)
    assert environment("Toy-v0:shape=[4]").sizes == (4, 1)


class Patient(Toy):
    """Knows how long its episodes are."""

    def __init__(self, size=5, **settings):
        super().__init__(**settings)
        self.horizon = 3 * size


@pytest.mark.usefixtures("_forgotten")
def test_the_horizon_follows_the_settings_where_an_environment_says_so():
    def patient(**settings):
        gymnasium.register("Patient-v0", Patient, disable_env_checker=True, **settings)

    try:
        patient()
        assert environment("Patient-v0").horizon == 15
        assert environment("Patient-v0:size=4").horizon == 12
        register("environment", "patient", Environment("Patient-v0", horizon=7))
        assert environment("patient").horizon == 7
        assert environment("patient:size=6").horizon == 18
    finally:
        del gymnasium.registry["Patient-v0"]


@pytest.mark.parametrize(
    "value",
    [
        [1, 2], "5", "None", "a,b", "a:b", "a=b", {"a": [1, (2,)], "b": "x,y=3"}, "don't", "'\"",
        "", " x ", None, True, 1.5, -1e-9, (1,), "[", "x\ny", "\\", "dict", "key-up", "../a b",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["toy", "package.module:Toy-v0", "package.module:TOY"])
def test_settings_are_read_as_they_are_spelled(value, name):
    settings = {"x": value, "y": 3, "z": value}
    found = Environment("Toy-v0", name=name, settings=settings)
    assert parted(found.spelled) == (name, settings)
    assert parted(Environment(name, settings=settings).title) == (name, settings)


def test_plain_settings_are_spelled_plainly():
    found = Environment("A-v0", settings={"kind": "dict", "length": 9, "early": False, "s": 0.5})
    assert found.spelled == found.title == "A-v0:kind=dict,length=9,early=False,s=0.5"


@pytest.mark.parametrize("value", [float("inf"), np.zeros(3), [float("nan")], len])
def test_settings_that_cannot_be_spelled_are_named(value):
    with pytest.raises(UserError, match=r"environment A-v0 has the setting x .* cannot be written"):
        _ = Environment("A-v0", settings={"x": value}).spelled


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tmaze:length=9,length=9", "says length twice; say it once"),
        ("tmaze:max_episode_steps=5", "the setting max_episode_steps, which is Gymnasium's"),
        ("hopper:max_episode_steps=50", "the setting max_episode_steps, which is Gymnasium's"),
        ("Toy-v0:render_mode=human", "the setting render_mode, which is Gymnasium's"),
        ("Toy-v0:disable_env_checker=True", "the setting disable_env_checker, which is Gym"),
        ("Toy-v0:id=Hopper-v4", "the setting id, which is Gymnasium's"),
    ],
)
def test_settings_that_are_none_are_a_sentence(name, sentence):
    with pytest.raises(UserError, match=sentence):
        environment(name)


@pytest.mark.parametrize("actions", ["Dict", "Tuple", "whole"])
def test_actions_that_cannot_be_taken_are_refused_however_the_environment_is_made(actions):
    kinds = {
        "Dict": gymnasium.spaces.Dict(a=gymnasium.spaces.Discrete(2)),
        "Tuple": gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(2),)),
        "whole": gymnasium.spaces.Box(0, 4, (2,), np.int32),
    }
    with pytest.raises(UserError, match=r"Toy-v0:actions=.* cannot be taken: actions in"):
        make_envs(Environment("Toy-v0", settings={"actions": kinds[actions]}), 1)


@pytest.mark.parametrize(
    "text", ["-" * 3000 + "1", "-" * 20_000 + "1", "{[]:1}", "(" * 9000, "[1", "'"]
)
def test_what_python_cannot_read_is_a_text(text):
    assert parted(f"tmaze:length={text}") == ("tmaze", {"length": text})

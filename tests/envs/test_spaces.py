import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Text, Tuple
from gymnasium.spaces.utils import flatten
from hypothesis import given
from hypothesis import strategies as st

from transfer.envs.environment import environment, make_env
from transfer.envs.spaces import Vectors, as_vectors, choices, native, own, recorded, vectors, width
from transfer.errors import UserError

ACTIONS = [Discrete(4), Discrete(3, start=2), MultiDiscrete([3, 2, 4]), MultiBinary(3)]
OBSERVATIONS = [
    *ACTIONS[:3],
    Box(-1, 1, (2, 3)),
    Dict(a=Box(0, 1, (2,)), b=Discrete(3)),
    Tuple((Discrete(2), Dict(c=Discrete(3)))),
]


@given(st.sampled_from(OBSERVATIONS), st.integers(0, 99))
def test_a_value_is_what_gymnasium_flattens_it_to(space, seed):
    space.seed(seed)
    value = space.sample()
    batch = {key: [part] for key, part in value.items()} if isinstance(value, dict) else [value]
    if isinstance(value, tuple):
        batch = ([value[0]], {"c": [value[1]["c"]]})
    found = vectors(space, batch)
    assert found.shape == (1, width(space))
    np.testing.assert_allclose(found[0], flatten(space, value), rtol=1e-6)


@given(st.sampled_from(ACTIONS), st.integers(0, 99), st.floats(0.5, 9))
def test_the_largest_number_of_each_choice_is_taken(space, seed, scale):
    space.seed(seed)
    actions = np.stack([space.sample() for _ in range(5)])
    numbers = vectors(space, actions) * scale - 3
    assert width(space) == sum(choices(space))
    taken = native(space, numbers)
    np.testing.assert_array_equal(taken, actions)
    assert all(action in space for action in taken)


def test_bytes_of_a_picture_are_from_0_to_1():
    found = vectors(Box(0, 255, (1, 2), np.uint8), np.array([[[0, 255]], [[51, 102]]], np.uint8))
    np.testing.assert_allclose(found, [[0, 1], [0.2, 0.4]], rtol=1e-6)


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (Box(0, 1, (3,), np.uint8), [0, 1, 1], [0, 1, 1]),
        (Box(0, 10, (2,), np.uint8), [5, 10], [0.5, 1]),
        (Box(np.uint8([0, 0]), np.uint8([0, 255]), dtype=np.uint8), [0, 51], [0, 0.2]),
        (Box(0, 10, (2,), np.int64), [5, 10], [5, 10]),
        (Box(0, 255, (2,)), [5, 10], [5, 10]),
    ],
)  # fmt: skip
def test_bytes_are_divided_by_the_largest_they_can_be(space, value, expected):
    np.testing.assert_allclose(vectors(space, [value]), [expected], rtol=1e-6)


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("seen", [Box(-1, 1, (2,)), Discrete(3)])
def test_whole_numbers_are_no_real_actions(kind, seen):
    env = gymnasium.Env()
    env.observation_space, env.action_space = seen, Box(0, 1, (2,), kind)
    with pytest.raises(UserError, match=r"in Box\(.* whole numbers, .* use a MultiDiscrete"):
        as_vectors(env)


@pytest.mark.parametrize(
    "space", [Dict(), Tuple(()), Box(0, 1, (0,)), Box(0, 1, (2, 0)), Dict(a=Discrete(2), b=Dict())]
)
def test_spaces_of_nothing_are_named(space):
    with pytest.raises(UserError, match=r"is empty; leave it out"):
        width(space)
    env = gymnasium.Env()
    env.observation_space, env.action_space = space, Box(-1, 1, (1,))
    with pytest.raises(UserError, match="is empty"):
        as_vectors(env)


@pytest.mark.parametrize("actions", [Dict(a=Discrete(2)), Tuple((Discrete(2),)), Text(3)])
def test_actions_that_cannot_be_taken_are_named(actions):
    env = gymnasium.Env()
    env.observation_space, env.action_space = Box(-1, 1, (1,)), actions
    with pytest.raises(UserError, match=r"actions in a \w+ cannot be taken"):
        Vectors(env)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_single_precision_are_infinite_without_a_word():
    space = Box(-1e300, 1e300, (2,), np.float64)
    assert vectors(space, [[1e300, 1]]).tolist() == [[np.inf, 1]]
    env = gymnasium.Env()
    env.observation_space, env.action_space = Discrete(2), space
    assert Vectors(env).action_space.high.tolist() == [np.inf, np.inf]
    edges = Box(-np.finfo(np.float64).max, np.finfo(np.float64).max, (2,), np.float64)
    assert recorded(edges, [[3.0, -3.0]]).tolist() == [[3, -3]]


def test_real_actions_are_clipped_to_their_bounds_exactly():
    space = Box(0.1, 0.3, (1, 2), np.float64)
    taken = native(space, np.float32([[-1, 0.3], [0.2, 7]]))
    assert taken.dtype == np.float64 and all(one in space for one in taken)
    np.testing.assert_allclose(taken[:, 0], [[0.1, 0.3], [0.2, 0.3]], rtol=1e-7)


def test_actions_of_several_axes_are_vectors_within_their_bounds():
    space = Box(np.full((2, 3), -2.0, np.float32), np.full((2, 3), 5.0, np.float32))

    class Grid(gymnasium.Env):
        observation_space, action_space = Box(-1, 1, (1,)), space

        def step(self, action):
            assert action.shape == (2, 3)
            return np.zeros(1, np.float32), float(action[1, 0]), False, False, {}

    env = Vectors(Grid())
    np.testing.assert_array_equal(env.action_space.low, np.full(6, -2.0))
    np.testing.assert_array_equal(env.action_space.high, np.full(6, 5.0))
    assert env.step(np.arange(6.0))[1] == 3.0


@pytest.mark.parametrize("value", [4, -1, 0.5, np.nan])
def test_a_value_outside_its_space_is_named(value):
    with pytest.raises(UserError, match=rf"value {value} at 1 is not in Discrete\(4\)"):
        vectors(Discrete(4), np.array([0, value]))


@pytest.mark.parametrize("space", [Text(3), Sequence(Discrete(2)), Dict(a=Text(3))])
def test_spaces_without_a_fixed_number_of_numbers_are_named(space):
    with pytest.raises(UserError, match="no fixed number of numbers; use Box, Discrete"):
        width(space)


@pytest.mark.parametrize(
    ("name", "sizes", "counts"),
    [
        ("CartPole-v1", (4, 2), (2,)),
        ("FrozenLake-v1:is_slippery=False", (16, 4), (4,)),
        ("Blackjack-v1", (45, 2), (2,)),
        ("Pendulum-v1", (3, 1), ()),
    ],
)
def test_environments_are_seen_as_vectors(name, sizes, counts):
    found = environment(name)
    assert (found.sizes, found.choices) == (sizes, counts)
    env, inner = make_env(found), gymnasium.make(found.id, **found.settings)
    first, _ = env.reset(seed=3)
    np.testing.assert_array_equal(
        first, flatten(inner.observation_space, inner.reset(seed=3)[0]).astype(first.dtype)
    )
    if counts:
        numbers = np.eye(counts[0])[1] * 0.3 - 1
        ours, theirs = env.step(numbers), inner.step(1)
        np.testing.assert_allclose(ours[0], flatten(inner.observation_space, theirs[0]), rtol=1e-6)
        assert ours[1:4] == theirs[1:4]


def test_what_is_its_own_is_found_through_wrappers():
    env = make_env("CartPole-v1")
    assert isinstance(own(gymnasium.Wrapper(env)).action_space, Discrete)
    plain = gymnasium.Wrapper(gymnasium.make("Pendulum-v1"))
    assert own(plain) is plain

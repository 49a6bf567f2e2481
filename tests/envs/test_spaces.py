import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Text, Tuple
from gymnasium.spaces.utils import flatten
from hypothesis import given
from hypothesis import strategies as st

from transfer.envs.environment import environment, make_env
from transfer.envs.spaces import Vectors, choices, native, vectors, width
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

import re
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

from transfer.envs.environment import make_envs
from transfer.envs.mujoco import use_headless_rendering
from transfer.envs.noise import Noise
from transfer.envs.rollout import course_every, refuse_failures, rollout, stream
from transfer.errors import SimulationError


class Countdown(gymnasium.Env):
    """Ends after `seed % 10 + 1` steps; the state is (seed, step), the reward the action's sum."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (2,))

    def __init__(self, fail_at=None, nan_at=None, nan_reward_at=None):
        self.fail_at, self.nan_at, self.nan_reward_at = fail_at, nan_at, nan_reward_at

    def reset(self, *, seed=None, options=None):
        self.state = np.array([seed, 0.0])
        return self.state.copy(), {}

    def step(self, action):
        if self.state[1] == self.fail_at:
            raise ValueError("out of fuel")
        self.state[1] += 1
        shown = self.state * (np.nan if self.state[1] == self.nan_at else 1.0)
        reward = np.nan if self.state[1] == self.nan_reward_at else float(action.sum())
        terminated = self.state[1] > self.state[0] % 10
        return shown, reward, terminated, False, {}


class Recorder:
    """Acts by the seed and the returns-to-go, and remembers what it was told."""

    def __init__(self, value=None):
        self.value = value
        self.sizes, self.calls, self.kept = [], [], []

    def reset(self, episodes):
        self.sizes.append(episodes)
        self.step = 0

    def act(self, states, returns_to_go, previous_actions):
        assert (states[:, 1] == self.step).all()
        self.step += 1
        self.calls.append((states, returns_to_go, previous_actions))
        actions = torch.stack([states[:, 0], returns_to_go[:, 0]], 1) / 100
        return actions if self.value is None else torch.full_like(actions, self.value)

    def select(self, rows):
        self.kept.append(rows.tolist())


def test_episodes_come_in_the_order_of_the_seeds_and_leave_as_they_end():
    def play(how, controller):
        envs = [Countdown() for _ in range(3)]
        return how(controller, envs, [14, 11, 18, 12], 5.0, 1.0)

    controller = Recorder()
    episodes, _ = play(rollout, controller)
    assert [episode.seed for episode in episodes] == [14, 11, 18, 12]
    assert [episode.length for episode in episodes] == [5, 2, 9, 3]
    assert all(episode.terminated and episode.target == 5.0 for episode in episodes)
    ended = list(play(stream, Recorder()))
    assert [(episode.seed, episode.place) for episode in ended] == [
        (11, 1), (14, 0), (18, 2), (12, 3),
    ]  # fmt: skip
    assert controller.sizes == [3, 1]
    assert controller.kept == [[0, 2], [1]]
    assert [len(states) for states, _, _ in controller.calls] == [3, 3] + [2] * 3 + [1] * 7


def test_a_seed_may_be_played_more_than_once():
    episodes, _ = rollout(Recorder(), [Countdown(), Countdown()], [14, 11, 14], 5.0, 1.0)
    assert [(episode.seed, episode.length) for episode in episodes] == [(14, 5), (11, 2), (14, 5)]


def test_returns_to_go_follow_the_rewards_and_previous_actions_their_episodes():
    controller = Recorder()
    episodes, _ = rollout(controller, [Countdown(), Countdown()], [11, 14], 6.0, 2.0)
    assert controller.calls[0][2] is None
    to_go, rewards = 6.0 / 2.0, []
    for states, returns_to_go, previous in controller.calls:
        row = states[:, 0].tolist().index(14.0)
        assert returns_to_go[row, 0].item() == pytest.approx(to_go, rel=1e-6)
        if rewards:
            assert previous[row].sum().item() == pytest.approx(rewards[-1], rel=1e-6)
        rewards.append(0.14 + to_go / 100)
        to_go -= rewards[-1] / 2.0
    assert episodes[1].episode_return == pytest.approx(sum(rewards), rel=1e-6)


def test_the_size_of_the_batch_changes_no_episode():
    def played(parallel):
        envs = [Countdown() for _ in range(parallel)]
        return rollout(Recorder(), envs, range(10, 20), 4.0, 1.0)[0]

    assert played(10) == played(3) == played(1)


def test_max_steps_cuts_without_terminating():
    episodes, _ = rollout(Recorder(), [Countdown(), Countdown()], [19, 11], 1.0, 1.0, max_steps=4)
    assert [(episode.length, episode.terminated) for episode in episodes] == [(4, False), (2, True)]


def test_the_course_of_a_return_has_twenty_points_at_most_and_the_end():
    envs = [Countdown(), Countdown()]
    long, short = rollout(Recorder(0.25), envs, [19, 13], 1.0, 1.0, max_steps=60)[0]
    # Half a point a step, told every third.
    assert course_every(60) == 3 and course_every(10) == 1 and course_every(1000) == 50
    assert long.course == (0.0, 1.5, 3.0, 4.5, 5.0) and long.length == 10
    assert short.course == (0.0, 1.5, 2.0) and short.episode_return == 2.0
    [cut] = rollout(Recorder(0.25), [Countdown()], [19], 1.0, 1.0, max_steps=3)[0]
    assert cut.course == (0.0, 0.5, 1.0, 1.5)


def test_time_is_split_between_simulator_and_policy(monkeypatch):
    import transfer.envs.rollout as module

    ticks = iter(range(1000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))
    _, clock = rollout(Recorder(), [Countdown()], [12], 1.0, 1.0)
    # one interval of one tick for the reset, and for each of the three steps one of either kind
    assert (clock.simulator_s, clock.policy_s) == (4.0, 3.0)


def test_a_simulator_that_raises_ends_its_episode_alone():
    controller = Recorder()
    envs = [Countdown(), Countdown(fail_at=2)]
    episodes, _ = rollout(controller, envs, [18, 15], 1.0, 1.0)
    assert [(episode.length, episode.terminated) for episode in episodes] == [(9, True), (3, False)]
    assert episodes[0].failure is None
    assert episodes[1].failure == "Countdown, seed 15, step 2: the simulator failed (out of fuel)"
    assert np.isfinite(episodes[1].episode_return)
    with pytest.raises(SimulationError, match="seed 15, step 2"):
        refuse_failures(episodes)


def test_an_environment_that_failed_is_used_again():
    envs = [Countdown(fail_at=2)]
    episodes, _ = rollout(Recorder(), envs, [15, 11], 1.0, 1.0)
    assert [episode.failure is None for episode in episodes] == [False, True]
    alone, _ = rollout(Recorder(), [Countdown()], [11], 1.0, 1.0)
    assert replace(episodes[1], place=0) == alone[0]


class Sloppy(Countdown):
    """Answers with something else at step 2."""

    def __init__(self, **answers):
        super().__init__()
        self.answers = answers

    def step(self, action):
        found = dict(zip(("state", "reward", "terminated", "cut", "info"), super().step(action)))
        return tuple((found | (self.answers if self.state[1] == 2 else {})).values())


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"state": np.zeros(1)}, r"an observation of shape \(1,\) instead of \(2,\)"),
        ({"state": np.zeros(())}, r"an observation of shape \(\) instead of \(2,\)"),
        ({"state": np.zeros(3)}, r"an observation of shape \(3,\) instead of \(2,\)"),
        ({"state": np.zeros((1, 2))}, r"an observation of shape \(1, 2\) instead"),
        ({"state": None}, "the simulator failed|not finite"),
        ({"state": [[1.0], [1.0, 2.0]]}, "inhomogeneous"),
        ({"state": np.full(2, 1e300)}, "a number that is not finite"),
        ({"reward": None}, "NoneType"),
        ({"reward": np.inf}, "a number that is not finite"),
        ({"terminated": np.zeros(2)}, "ambiguous"),
        ({"info": None}, "NoneType"),
        ({"info": {"success": None}}, "NoneType"),
        ({"info": {"success": np.nan}}, r"info\['success'\] is nan"),
        ({"info": {"cue": np.zeros(2)}}, "ambiguous"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_an_answer_that_is_none_ends_its_episode_alone(answers, sentence):
    episodes, _ = rollout(Recorder(0.5), [Countdown(), Sloppy(**answers)], [18, 15], 1.0, 1.0)
    assert episodes[0].failure is None and episodes[0].length == 9
    assert "seed 15, step 1: the simulator" in episodes[1].failure
    assert re.search(sentence, episodes[1].failure)
    # The reward of the step that failed does not count.
    assert (episodes[1].length, episodes[1].episode_return) == (2, 1.0)
    assert episodes[1].success is None and not episodes[1].terminated


@pytest.mark.parametrize("first", [np.zeros(3), np.zeros(1), None, np.full(2, np.nan), "x"])
def test_a_beginning_that_fails_is_an_episode_that_fails(first):
    class Late(Countdown):
        def reset(self, **options):
            super().reset(**options)
            if first is None:
                raise OSError("no licence")
            return first, {}

    for envs in ([Countdown(), Late()], [Late(), Countdown()]):
        episodes, _ = rollout(Still2(), envs, [12, 13], 1.0, 1.0)
        failed = [isinstance(env, Late) for env in envs]
        assert [one.failure is not None for one in episodes] == failed
        said = episodes[failed.index(True)]
        assert re.search("seed 1[23], step 0: the simulator", said.failure)
        assert (said.length, said.episode_return, said.terminated) == (1, 0.0, False)
    [alone], _ = rollout(Still2(), [Late()], [12], 1.0, 1.0, on_frame=pytest.fail)
    assert alone.failure


def test_real_actions_are_clipped_to_their_space_and_told_so():
    controller = Recorder(value=-3.0)
    env = Countdown()
    env.action_space = gymnasium.spaces.Box(np.float32([0, -2]), np.float32([1, 2]))
    [episode], _ = rollout(controller, [env], [12], 1.0, 1.0)
    assert episode.episode_return == -2.0 * 3
    assert controller.calls[1][2].tolist() == [[0, -2]]


def test_the_largest_number_of_a_choice_is_not_clipped():
    class Chooser(Still):
        def act(self, states, returns_to_go, previous_actions):
            assert previous_actions is None or previous_actions.tolist() == [[2.0, 3.0]]
            return torch.tensor([[2.0, 3.0]])

    class Counted(gymnasium.Wrapper):
        taken = ()

        def step(self, action):
            self.taken += (action.tolist(),)
            return super().step(action)

    env = Counted(make_envs("CartPole-v1", 1)[0])
    rollout(Chooser(), [env], [0], 1.0, 1.0, max_steps=3)
    assert env.taken == ([2.0, 3.0],) * 3


@pytest.mark.parametrize("fault", ["nan_at", "nan_reward_at"])
def test_what_is_not_finite_counts_no_further(fault):
    [episode], _ = rollout(Recorder(value=0.5), [Countdown(**{fault: 2})], [15], 1.0, 1.0)
    assert "seed 15, step 1: the simulator returned a number" in episode.failure
    assert episode.length == 2
    assert episode.episode_return == 1.0


def test_a_policy_that_returns_nan_is_not_silent():
    [episode], _ = rollout(Recorder(value=float("nan")), [Countdown()], [11], 1.0, 1.0)
    assert "seed 11, step 0: the policy's action" in episode.failure
    assert episode.episode_return == 0.0


def test_delayed_rewards_leave_the_return_to_go():
    controller = Recorder()
    rollout(controller, [Countdown()], [15], 6.0, 2.0, delayed=True)
    assert [to_go.item() for _, to_go, _ in controller.calls] == [3.0] * 6


def test_noise_disturbs_its_steps_alone_and_is_told():
    plain, noisy = Recorder(value=0.5), Recorder(value=0.5)
    rollout(plain, [Countdown()], [19], 1.0, 1.0)
    rollout(noisy, [Countdown()], [19], 1.0, 1.0, noise=Noise(0.1, every=4, length=2))
    told = [previous for _, _, previous in noisy.calls[1:]]
    disturbed = [step for step, action in enumerate(told) if (action != 0.5).any()]
    assert disturbed == [4, 5, 8]
    assert all((previous == 0.5).all() for _, _, previous in plain.calls[1:])


def test_noise_is_the_seeds_own_and_stays_in_the_action_space():
    def told(seeds):
        controller = Recorder(value=0.5)
        envs = [Countdown() for _ in seeds]
        rollout(controller, envs, seeds, 1.0, 1.0, noise=Noise(3.0, every=2, length=2))
        return [call[2] for call in controller.calls[1:]]

    together, alone = told([19, 29]), told([29])
    for pair, single in zip(together, alone):
        assert torch.equal(pair[-1:], single)
        assert pair.abs().max() <= 1.0
    assert not torch.equal(together[2][0], together[2][1])


class Still2(Recorder):
    """Takes whatever it sees."""

    def act(self, states, returns_to_go, previous_actions):
        assert states.isfinite().all()
        return torch.zeros(len(states), 2)


class Still:
    def reset(self, episodes):
        self.episodes = episodes

    def act(self, states, returns_to_go, previous_actions):
        return torch.zeros(len(states), 3)

    def select(self, rows):
        self.episodes = len(rows)


def test_silent_restarts_of_mujoco_are_not_silent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Breaking(gymnasium.Wrapper):
        def step(self, action):
            self.unwrapped.data.qacc_warmstart[:] = 0
            self.unwrapped.data.qvel[:] = np.inf
            return super().step(action)

    envs = [Breaking(env) for env in make_envs("hopper", 1)]
    [episode], _ = rollout(Still(), envs, [0], 1.0, 1.0, max_steps=3)
    assert re.search(r"Hopper-v4, seed 0, .*(diverged|not finite)", episode.failure)


def test_hopper_standing_still_gives_the_same_return_twice():
    envs = make_envs("hopper", 2)
    first, _ = rollout(Still(), envs, [0, 1], 1.0, 1000.0)
    again, _ = rollout(Still(), envs[:1], [0, 1], 1.0, 1000.0)
    assert first == again
    assert first[0].terminated
    assert first[0].episode_return == pytest.approx(132.17274375706998, rel=1e-6)


def test_frames_of_the_first_episode():
    use_headless_rendering()
    envs = make_envs("hopper", 2, video=True)
    frames = []
    episodes, _ = rollout(
        Still(), envs, [0, 1], 1.0, 1.0, max_steps=9, on_frame=frames.append, frame_every=4
    )
    for env in envs:
        env.close()
    assert len(episodes) == 2
    assert len(frames) == 3
    assert all(frame.dtype == np.uint8 and frame.shape == (480, 480, 3) for frame in frames)
    assert (frames[0] != frames[-1]).any()

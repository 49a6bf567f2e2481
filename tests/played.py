"""Episodes of the memory tasks, played by a function."""

import numpy as np


def play(env, seed, act):
    """Observations, infos, rewards and whether it terminated, of an episode that `act(env)` plays.

    Of the observations all in which an action was taken; of the infos one more.
    """
    observation, info = env.reset(seed=seed)
    observations, infos, rewards = [observation], [info], []
    while True:
        observation, reward, terminated, truncated, info = env.step(act(env))
        rewards.append(reward)
        infos.append(info)
        if terminated or truncated:
            return np.array(observations), infos, rewards, terminated
        observations.append(observation)


def expert(env):
    return env.expert()


def wrong(env):
    return env.expert(wrong=True)


def steps(infos, mark):
    """Those that bear a mark."""
    return [step for step, info in enumerate(infos) if info[mark]]

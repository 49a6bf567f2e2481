"""A corridor with a scripted expert: the signal of the first step answers the gate at the end."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

#: Pictures that convolutions can take, and shapes of them with the axes in other places.
SCREENS = {"screen": (40, 36, 3), "first": (3, 40, 36), "turned": (36, 40, 3), "grey": (40, 36)}


class Corridor(gymnasium.Env):
    """`kind`: of the observations; `actions`: of a step."""

    def __init__(self, kind: str = "vector", actions: str = "one", length: int = 4) -> None:
        self.kind, self.length = kind, length
        self.observation_space = {
            "vector": Box(-1, 1, (2,)),
            "choice": Discrete(3, start=1),
            "picture": Box(0, 255, (2, 3, 1), np.uint8),
            **{name: Box(0, 255, shape, np.uint8) for name, shape in SCREENS.items()},
            "dict": Dict({"where": Discrete(9), "seen": Dict({"signal": Box(-1, 1, (1,))})}),
            "tuple": Tuple((Discrete(9), MultiDiscrete([3, 2]))),
        }[kind]
        self.action_space = Discrete(3) if actions == "one" else MultiDiscrete([3, 2])

    def _screen(self, signal: int) -> np.ndarray:
        """Light on the left or on the right, by the signal."""
        screen = np.zeros(SCREENS[self.kind], np.uint8)
        if signal:
            screen[:, :12] = 255 if signal > 0 else 0
            screen[:, -12:] = 255 if signal < 0 else 0
        return screen

    def _seen(self) -> Any:
        signal = self.signal if self.step_now == 0 else 0
        if self.kind in SCREENS:
            return self._screen(signal)
        return {
            "vector": np.array([signal, self.step_now / 9], np.float32),
            "choice": signal + 2,
            "picture": np.full((2, 3, 1), 100 * (signal + 1), np.uint8),
            "dict": {"where": self.step_now, "seen": {"signal": np.array([signal], np.float32)}},
            "tuple": (self.step_now, np.array([signal + 1, self.step_now % 2])),
        }[self.kind]

    def _info(self) -> dict[str, Any]:
        return {"recall": self.step_now == self.length - 1}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_now, self.signal = 0, int(self.np_random.choice([-1, 1]))
        return self._seen(), self._info()

    def expert(self, wrong: bool = False) -> Any:
        last = self.step_now == self.length - 1
        turn = (self.signal if not wrong else -self.signal) if last else 0
        one = {0: 0, 1: 1, -1: 2}[turn]
        return one if isinstance(self.action_space, Discrete) else np.array([one, last])

    def step(self, action):
        assert self.action_space.contains(action)
        last = self.step_now == self.length - 1
        one = int(np.ravel(action)[0])
        self.step_now += 1
        reward = float(last and one == {1: 1, -1: 2}[self.signal])
        return self._seen(), reward, last, False, self._info() | {"success": reward}


gymnasium.register("Corridor-v0", entry_point="corridor_env:Corridor")

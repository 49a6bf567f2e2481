"""A world of one's own: `transfer eval control --model FOLDER --env example-env`."""

from typing import Any

import gymnasium
import numpy as np

from transfer import Environment


class Point(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point on a plane is pushed, and pays for its distance from the middle."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,))
    action_space = gymnasium.spaces.Box(-1, 1, (2,))

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Somewhere, at rest."""
        super().reset(seed=seed)
        self.state = np.concatenate([self.np_random.uniform(-1, 1, 2), np.zeros(2)])
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Accelerate."""
        place, speed = self.state[:2], self.state[2:] + 0.1 * np.clip(action, -1, 1)
        self.state = np.concatenate([place + 0.1 * speed, speed])
        return self.state.astype(np.float32), -float(np.hypot(*place)), False, False, {}


gymnasium.register("ExamplePoint-v0", f"{__name__}:Point", max_episode_steps=50)

#: Returns of random pushes and of a good hand, between which scores go from 0 to 100.
EXAMPLE = Environment("ExamplePoint-v0", random=-57.6, expert=-12.4, targets=(-12.0,), horizon=50)

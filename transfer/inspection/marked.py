"""What an environment says of its observations, noted while an episode runs."""

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from jaxtyping import Bool


class Marked(gymnasium.Wrapper):
    """Notes what the environment says of each observation, and how it looks at the beginning.

    Attributes:
        picture: `[height, width, 3]` bytes; None where the environment draws none.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._infos: list[dict[str, Any]] = []
        self.picture: np.ndarray | None = None

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the episode."""
        state, info = self.env.reset(**options)
        self._infos = [info]
        if self.env.render_mode == "rgb_array":
            self.picture = np.asarray(self.env.render())
        return state, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict]:
        """Take a step."""
        state, reward, terminated, truncated, info = self.env.step(action)
        self._infos.append(info)
        return state, reward, terminated, truncated, info

    def marks(self, name: str) -> Bool[np.ndarray, " steps"]:
        """Which of the observations it says this of."""
        return np.array([bool(info.get(name)) for info in self._infos])

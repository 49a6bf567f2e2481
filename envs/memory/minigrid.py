"""MiniGrid-Memory (arXiv:2306.13831; `MiniGrid-MemoryS13-v0` and others) of any odd size.

The agent starts somewhere in a hallway and looks along it. In a room behind it lies a key or a
ball; at the end of the hallway there are both, up and down, and it has to turn to the same one. So
the cue comes when the agent has turned round and seen it. A window of 20 steps holds an episode of
size 13; of size 31, there are 24 steps and more from the room to the end.

The rules, the rewards and the random numbers are minigrid's. An observation is its view, 7 by 7
cells, as one-hot walls, keys and balls, and the direction; actions are left, right and forward, the
only ones that do anything here. Episodes are cut at four times the size, where minigrid's go on to
five times its square: tables of positions are no longer, and an expert needs twice the size.

minigrid computes each view anew, which is most of the time of a step. All that can be seen follows
from size, objects, place and direction, so here each view is computed once.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from jaxtyping import Float
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.envs.memory import MemoryEnv

from transfer.arguments import check_fields
from transfer.envs.memory.settings import check_range, read, rungs
from transfer.errors import UserError

LEFT, RIGHT, FORWARD = range(3)
#: Sizes between the smallest and the largest.
LADDER = (9, 13, 21, 31, 45, 61, 91, 121, 181, 241, 361, 481, 721)
_MOST = 999
_SEEN = ("wall", "key", "ball")
_VIEW = 7
_EAST, _SOUTH, _WEST, _NORTH = range(4)
_VIEWS: dict[tuple[Any, ...], tuple[np.ndarray, bool]] = {}


@dataclass(frozen=True)
class Sizes:
    """How large the grids are.

    Attributes:
        size: of the side, with the outer walls; odd.
        shortest: the smallest; the size of an episode is then drawn from a ladder between the two.
            None: all have `size`.
        upper: key or ball, which always lies up. To match two objects is an exclusive or, of which
            data without such episodes teach nothing at first. None: either.

    Raises:
        UserError: one is even, or out of range, or there is no such object.
    """

    size: int = 31
    shortest: int | None = None
    upper: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name, value in (("size", self.size), ("shortest", self.shortest)):
            if value is None:
                continue
            check_range(name, value, 7, _MOST)
            if value % 2 == 0:
                raise UserError(f"{name} is {value}; use an odd number, as {value + 1}")
        _ = self.all
        if self.upper not in (None, *_SEEN[1:]):
            raise UserError(f"upper is {self.upper!r}; use key or ball, or leave it out")

    @cached_property
    def all(self) -> tuple[int, ...]:
        """Sizes that an episode may have."""
        return rungs("size", self.size, self.shortest, LADDER)


class MiniGridMemory(MemoryEnv):
    """MiniGrid-Memory.

    Args:
        render_mode: of minigrid.
        settings: of `Sizes`.

    Raises:
        UserError: a setting is none of it, or refused.
    """

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        self.sizes = read(Sizes, settings)
        super().__init__(size=self.sizes.size, render_mode=render_mode)
        self.observation_space = Box(0, 1, (_VIEW**2 * len(_SEEN) + 4,), np.float32)
        self.action_space = Discrete(3)

    @property
    def horizon(self) -> int:
        """Steps of the longest episode."""
        return 4 * self.sizes.size

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        self._saw_cue = False
        observation, _ = super().reset(seed=seed, options=options)
        return observation, self._marks()

    def step(
        self, action: int | np.integer
    ) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict[str, Any]]:
        """Turn left, turn right, or go forward.

        Raises:
            UserError: there is no such action.
        """
        if action not in (LEFT, RIGHT, FORWARD):
            raise UserError(f"action is {action}; use 0 (left), 1 (right) or 2 (forward)")
        observation, reward, ended, _, _ = super().step(action)
        cut = not ended and self.step_count >= 4 * self.width
        info: dict[str, Any] = {"cue": False, "recall": False} if ended else self._marks()
        if ended or cut:
            info["success"] = float(self._place == self.success_pos)
        return observation, reward, ended, cut, info

    def expert(self, wrong: bool = False) -> int:
        """What the scripted expert does now; `wrong`: it turns to the other object at the end.

        It goes on to where it has turned.
        """
        (x, y), middle = self._place, self.height // 2
        if not self._saw_cue:
            return self._towards(_WEST)
        if y != middle:
            return self._towards(_SOUTH if y < middle else _NORTH)
        if x < self.success_pos[0]:
            return self._towards(_EAST)
        if self.agent_dir in (_NORTH, _SOUTH):
            return FORWARD
        up = self.success_pos[1] < middle
        return self._towards(_NORTH if up != wrong else _SOUTH)

    def _towards(self, direction: int) -> int:
        """Forward if the agent looks there, else a turn, the shorter way."""
        turns = (direction - self.agent_dir) % 4
        return (FORWARD, RIGHT, RIGHT, LEFT)[turns]

    def gen_obs(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What the agent sees."""
        view, self._sees_cue = self._view()
        return view.copy()

    def _gen_grid(self, width: int, height: int) -> None:
        # A single size draws no random number, so that episodes are minigrid's own.
        sizes = self.sizes.all
        size = sizes[0] if len(sizes) == 1 else int(self.np_random.choice(sizes))
        self.width = self.height = size
        self.max_steps = 5 * size**2
        middle = size // 2
        self._room = (1, middle - 1)
        places, upper = (self._room, (size - 2, middle - 2)), self.sizes.upper
        while True:
            super()._gen_grid(size, size)
            objects: list[Any] = [self.grid.get(*place) for place in places]
            self._objects = tuple(one.type for one in objects)
            if upper is None or self._objects[1] == upper:
                return

    @property
    def _place(self) -> tuple[int, int]:
        return int(self.agent_pos[0]), int(self.agent_pos[1])

    def _marks(self) -> dict[str, Any]:
        """Whether the cue is seen for the first time, and whether a turn has to be chosen."""
        new = self._sees_cue and not self._saw_cue
        self._saw_cue |= new
        at_end = self._place[0] == self.success_pos[0]
        return {"cue": new, "recall": at_end and self.agent_dir in (_EAST, _WEST)}

    def _view(self) -> tuple[Float[np.ndarray, "151"], bool]:
        """The observation, and whether the room's object is in it."""
        key = (self.width, self._objects, self._place, self.agent_dir)
        if key not in _VIEWS:
            grid, visible = self.gen_obs_grid()
            things = grid.encode(visible)[..., 0]
            seen = np.stack([things == OBJECT_TO_IDX[name] for name in _SEEN], -1)
            view = np.concatenate([seen.ravel(), np.eye(4)[self.agent_dir]])
            at = self.relative_coords(*self._room)
            _VIEWS[key] = view.astype(np.float32), at is not None and bool(visible[at])
        return _VIEWS[key]


gymnasium.register("MiniGridMemory-v0", f"{__name__}:MiniGridMemory")

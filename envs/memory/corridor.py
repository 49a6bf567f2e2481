"""Corridors in which memory decides: a T-maze whose cue comes at a random step, and gates.

The agent walks along cells. Some show a key, which has a kind and one of two values; a gate asks
for a kind, and is answered by a turn to the left or to the right, whichever value that kind was
last shown with. Kinds that no gate asks for are decoys.

- `TMaze-v0`, the task of RATE (arXiv:2306.09459) and of work before it: one key, and one gate at
  the end. There the cue is shown in the first step, where a few protected first tokens are all the
  memory one needs; here it is in a random cell of the first half. In the second half, a fifth of
  the cues of a hundred steps would lie within the last twenty, and a short window be often lucky.
  RATE's agent may also walk back, which is of no use.
- `Gates4-v0`: four kinds, each shown once in the first half, and six gates in the second.
- `Gates-v0`: the same with a gate in every fourth cell on average, after the first 30 %. How often
  a key is asked for decides what attention tells of it before it is needed.

An observation is one number for a gate, the kind asked (one-hot), the kind shown (its value, 1 or
-1), and two of scenery, which mean nothing.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from jaxtyping import Bool, Float, Int, UInt8

from transfer.arguments import check_fields
from transfer.envs.memory.drawing import DECOY, FLOOR, GATE, KEY_HIGH, KEY_LOW, drawn
from transfer.envs.memory.settings import check_range, read, rungs
from transfer.errors import UserError

FORWARD, LEFT, RIGHT = range(3)
#: Cells of corridors between the shortest and the longest.
LADDER = (
    6, 8, 12, 16, 24, 32, 48, 64, 80, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400, 3200,
    4800, 6400,
)  # fmt: skip
_MOST_CELLS = 10_000
_MOST_KINDS = 64
_OTHER_KINDS = 3
_SCENERY = 2
_DECOYS = 6


@dataclass(frozen=True)
class Script:
    """All that an episode shows.

    Attributes:
        observations: of each cell.
        actions: the right one in each cell; other than forward at a gate.
        cues: cells that show a key which no later one overwrites.
    """

    observations: Float[np.ndarray, "cells width"]
    actions: Int[np.ndarray, " cells"]
    cues: Bool[np.ndarray, " cells"]


@dataclass(frozen=True)
class Plan:
    """What corridors hold.

    Attributes:
        length: cells.
        shortest: cells of the shortest; the length of an episode is then drawn from a ladder
            between the two. None: all have `length`.
        kinds: of keys that gates ask for; each is shown.
        gates: how many, or below 1 the share of the cells. The last is the last cell.
        early: share of the cells in which keys are shown; gates come after it.
        repeats: how often each kind is shown again, with a value drawn anew, which counts.
        decoys: how often a kind is shown that no gate asks for. None: 6. At most a quarter of the
            cells, of which shorter corridors show no more either.

    Raises:
        UserError: one is out of range, or a corridor has no room for all.
    """

    length: int = 100
    shortest: int | None = None
    kinds: int = 1
    gates: int | float = 1
    early: int | float = 0.5
    repeats: int = 0
    decoys: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_range("length", self.length, 2, _MOST_CELLS)
        check_range("kinds", self.kinds, 1, _MOST_KINDS)
        check_range("repeats", self.repeats, 0, _MOST_CELLS)
        check_range("decoys", self.decoys or 0, 0, self.length // 4)
        if not 0 < self.early < 1:
            raise UserError(f"early is {self.early}; use a share above 0 and below 1")
        if not 0 < self.gates < 1 and self.gates not in range(1, _MOST_CELLS):
            raise UserError(
                f"gates is {self.gates}; use a whole number, or a share above 0 and below 1"
            )
        for cells in self.lengths:
            self._check_room(cells)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Cells that an episode may have."""
        return rungs("length", self.length, self.shortest, LADDER)

    @property
    def width(self) -> int:
        """Numbers of an observation."""
        return 1 + 2 * self.kinds + _OTHER_KINDS + _SCENERY

    def drawn(self, rng: np.random.Generator) -> Script:
        """One episode."""
        cells = int(rng.choice(self.lengths))
        keys, gates, decoys = self._places(cells, rng)
        kinds = rng.permutation(np.tile(np.arange(self.kinds), 1 + self.repeats))
        # The last of a kind overwrites those before it.
        last = np.array([np.flatnonzero(kinds == kind)[-1] for kind in range(self.kinds)])
        asked = rng.integers(self.kinds, size=len(gates))
        others = self.kinds + rng.integers(_OTHER_KINDS, size=len(decoys))
        observations = np.zeros((cells, self.width), np.float32)
        observations[:, -_SCENERY:] = rng.uniform(-1, 1, (cells, _SCENERY))
        observations[gates, 0] = observations[gates, 1 + asked] = 1
        observations[decoys, 1 + self.kinds + others] = rng.choice((-1, 1), size=len(decoys))
        values = _values(rng, len(keys))
        observations[keys, 1 + self.kinds + kinds] = values
        actions, cues = np.full(cells, FORWARD), np.zeros(cells, bool)
        actions[gates] = np.where(values[last][asked] > 0, LEFT, RIGHT)
        cues[keys[last]] = True
        return Script(observations, actions, cues)

    def _places(
        self, cells: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells of keys, of gates and of decoys; keys and gates ascending."""
        room, most = self._room(cells), _DECOYS if self.decoys is None else self.decoys
        keys = np.sort(rng.permutation(room)[: self._keys])
        between = room + rng.permutation(cells - 1 - room)[: self._gates(cells) - 1]
        gates = np.sort(np.append(between, cells - 1))
        free = np.setdiff1d(np.arange(cells), np.concatenate([keys, gates]))
        return keys, gates, rng.permutation(free)[: min(most, cells // 4)]

    @property
    def _keys(self) -> int:
        return self.kinds * (1 + self.repeats)

    def _room(self, cells: int) -> int:
        return int(self.early * cells)

    def _gates(self, cells: int) -> int:
        return int(self.gates) if self.gates >= 1 else max(1, int(self.gates * cells))

    def _check_room(self, cells: int) -> None:
        room, gates = self._room(cells), self._gates(cells)
        if self._keys > room or gates > cells - room:
            raise UserError(
                f"a corridor of {cells} cells shows keys in {room} and has gates in the other "
                f"{cells - room}, too few for {self._keys} and {gates}; use longer corridors, or "
                "fewer kinds, repeats or gates"
            )


class Corridor(gymnasium.Env[np.ndarray, int | np.integer]):
    """A corridor; actions are forward, left and right.

    In a plain cell forward moves on, and turns do nothing. At a gate every action moves on; the
    right turn is rewarded with 1 over the number of gates. An episode ends after the last cell, and
    is cut at twice the cells.

    Args:
        render_mode: None or rgb_array.
        settings: of a `Plan`.

    Raises:
        UserError: a setting is none of it, or refused.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        self.render_mode = render_mode
        self.plan = read(Plan, settings)
        self.observation_space = Box(-1, 1, (self.plan.width,), np.float32)
        self.action_space = Discrete(3)

    @property
    def horizon(self) -> int:
        """Steps of the longest episode."""
        return 2 * self.plan.length

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.script = self.plan.drawn(self.np_random)
        self._gates = np.count_nonzero(self.script.actions)
        self.cell = self._steps = self._right = 0
        return self.script.observations[0].copy(), self._info(entered=True)

    def step(
        self, action: int | np.integer
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Walk on, or answer a gate.

        Raises:
            UserError: there is no such action.
        """
        if action not in (FORWARD, LEFT, RIGHT):
            raise UserError(f"action is {action}; use 0 (forward), 1 (left) or 2 (right)")
        wanted = self.script.actions[self.cell]
        right = wanted != FORWARD and action == wanted
        self._right += right
        self._steps += 1
        moved = bool(wanted != FORWARD or action == FORWARD)
        self.cell += moved
        cells = len(self.script.actions)
        ended = self.cell == cells
        cut = not ended and self._steps == 2 * cells
        info = {"cue": False, "recall": False} if ended else self._info(moved)
        if ended or cut:
            info["success"] = self._right / self._gates
        observation = self.script.observations[min(self.cell, cells - 1)].copy()
        return observation, float(right / self._gates), ended, cut, info

    def expert(self, wrong: bool = False) -> int:
        """What the scripted expert does now; `wrong`: the other turn at a gate."""
        action = int(self.script.actions[self.cell])
        return LEFT + RIGHT - action if wrong and action != FORWARD else action

    @property
    def shown(self) -> Int[np.ndarray, " cells"]:
        """What each cell of the episode shows, as `transfer.envs.memory.drawing` calls it."""
        observations, kinds = self.script.observations, self.plan.kinds
        keys, decoys = np.split(observations[:, 1 + kinds : -_SCENERY], [kinds], axis=1)
        values = keys.sum(1)
        return np.select(
            [observations[:, 0] > 0, values > 0, values < 0, decoys.any(1)],
            [GATE, KEY_HIGH, KEY_LOW, DECOY],
            FLOOR,
        )

    def render(self) -> UInt8[np.ndarray, "height width 3"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The corridor, and where the agent is."""
        return drawn(self.shown, min(self.cell, len(self.script.actions) - 1))

    def _info(self, entered: bool) -> dict[str, Any]:
        return {
            "cue": bool(entered and self.script.cues[self.cell]),
            "recall": bool(self.script.actions[self.cell] != FORWARD),
        }


def _values(rng: np.random.Generator, keys: int) -> np.ndarray:
    """Of each key, drawn last: nothing else in an episode depends on them."""
    return rng.choice((-1, 1), size=keys)


_ENTRY_POINT = f"{__name__}:Corridor"
gymnasium.register("TMaze-v0", _ENTRY_POINT)
gymnasium.register(
    "Gates-v0", _ENTRY_POINT, kwargs={"kinds": 4, "gates": 0.25, "early": 0.3, "decoys": 0}
)
gymnasium.register("Gates4-v0", _ENTRY_POINT, kwargs={"kinds": 4, "gates": 6, "decoys": 0})

"""Three games of POPGym (arXiv:2303.01859), with the scripted experts that data are recorded from.

The package popgym plays; here are marks, experts and `level`: easy, medium or hard.

- RepeatPrevious: say the suit of the card that was shown 3, 31 or 63 steps ago. All cards but the
  last few have to be remembered, each for so long: a cache of the newest tokens does it.
- Autoencode: watch 1, 2 or 3 decks, then say their suits from the last card to the first. What
  counts is how many a memory holds.
- Concentration: turn over pairs of cards that lie face down, and find those that match, by colour
  (easy; medium, with two decks) or by rank (hard).

Success is the share of right answers, or of pairs found. The return, which POPGym reports, is twice
that less 1 in the first two.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import MultiDiscrete
from popgym.core.env import POPGymEnv
from popgym.envs.autoencode import Autoencode as PlainAutoencode
from popgym.envs.autoencode import Mode
from popgym.envs.concentration import Concentration as PlainConcentration
from popgym.envs.repeat_previous import RepeatPrevious as PlainRepeatPrevious

from transfer.arguments import check_fields
from transfer.envs.memory.settings import read
from transfer.errors import UserError, unknown_name

_SUITS = 4


@dataclass(frozen=True)
class Level:
    """How hard a game is."""

    level: str = "easy"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.level not in ("easy", "medium", "hard"):
            raise unknown_name("level", self.level, ("easy", "medium", "hard"))


class _Game(POPGymEnv):
    """A game with marks.

    Args:
        render_mode: None.
        settings: of a `Level`.

    Raises:
        UserError: a setting is none of it, or refused.
    """

    metadata = {"render_modes": []}
    LEVELS: ClassVar[Mapping[str, Mapping[str, Any]]]
    deck: Any

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        super().__init__(**self.LEVELS[read(Level, settings).level])
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, _ = super().reset(seed=seed, options=options)
        self._right = 0
        return observation, self._marks(observation)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Answer.

        Raises:
            UserError: there is no such action.
        """
        if not self.action_space.contains(action):
            raise UserError(f"action is {action}; use one of {self.action_space}")
        observation, reward, ended, cut, _ = super().step(int(action))
        self._right += float(reward) > 0
        if ended or cut:
            marks = {"cue": False, "recall": False, "success": self._right / self._questions}
        else:
            marks = self._marks(observation)
        return observation, float(reward), ended, cut, marks

    @property
    @abstractmethod
    def horizon(self) -> int:
        """Steps of the longest episode."""

    @abstractmethod
    def expert(self, wrong: bool = False) -> int:
        """What the scripted expert does now; `wrong`: a mistake where something is recalled."""

    @property
    @abstractmethod
    def _questions(self) -> int:
        """Right answers, or pairs, of a perfect episode."""

    @abstractmethod
    def _marks(self, observation: Any) -> dict[str, Any]:
        """Whether what was shown has to be remembered, and whether an answer is due."""

    def _suit(self, hand: str, place: int) -> int:
        """Of a card in a hand."""
        return int(self.deck.suits_idx[self.deck[hand][place]])


class RepeatPrevious(_Game, PlainRepeatPrevious):
    """Say the suit of the card from a while ago; until there is one, any."""

    LEVELS = {
        "easy": {"num_decks": 1, "k": 4},
        "medium": {"num_decks": 2, "k": 32},
        "hard": {"num_decks": 3, "k": 64},
    }

    @property
    def horizon(self) -> int:
        """Steps of an episode."""
        return self.deck.num_cards - 1

    def expert(self, wrong: bool = False) -> int:
        """The suit asked for; `wrong`: another one."""
        if self.deck.hand_size("player") < self.k:
            return 0
        return (self._suit("player", -self.k) + wrong) % _SUITS

    @property
    def _questions(self) -> int:
        return self.deck.num_cards - self.k

    def _marks(self, observation: int) -> dict[str, Any]:
        shown = self.deck.hand_size("player")
        return {"cue": shown <= self._questions, "recall": shown >= self.k}


class Autoencode(_Game, PlainAutoencode):
    """Watch cards, then say their suits from the last to the first."""

    LEVELS = {"easy": {"num_decks": 1}, "medium": {"num_decks": 2}, "hard": {"num_decks": 3}}

    @property
    def horizon(self) -> int:
        """Steps of an episode."""
        return 2 * self.deck.num_cards - 1

    def expert(self, wrong: bool = False) -> int:
        """The suit asked for; `wrong`: another one, unless the card is in sight."""
        if self.mode == Mode.WATCH:
            return 0
        return (self._suit("system", -1) + (wrong and not self._in_sight)) % _SUITS

    @property
    def _questions(self) -> int:
        return self.deck.num_cards

    @property
    def _in_sight(self) -> bool:
        """Whether the card to say is the one being shown: the last."""
        return self.deck.hand_size("system") == self.deck.num_cards

    def _marks(self, observation: tuple[int, int]) -> dict[str, Any]:
        watching = self.mode == Mode.WATCH
        return {"cue": watching, "recall": not watching and not self._in_sight}


class Concentration(_Game, PlainConcentration):
    """Turn over pairs of cards that match.

    The expert turns over a pair it knows, else the first card that it has not seen, and its like
    where it knows one.
    """

    LEVELS = {
        "easy": {"num_decks": 1, "deck_type": "colors"},
        "medium": {"num_decks": 2, "deck_type": "colors"},
        "hard": {"num_decks": 1, "deck_type": "ranks"},
    }

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        super().__init__(render_mode, **settings)
        self.observation_space = MultiDiscrete(np.full(self.deck.num_cards, self.facedown_card + 1))

    @property
    def horizon(self) -> int:
        """Steps of an episode in which not all pairs are found."""
        return self.episode_length

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        self._known = np.zeros(self.deck.num_cards, bool)
        return super().reset(seed=seed, options=options)

    def expert(self, wrong: bool = False) -> int:
        """The card to turn over; `wrong`: where its like is known, one that is not alike."""
        known = self._known & self._down
        unseen = self._down & ~self._known
        turned = self.deck["in_play_idx"]
        if not turned:
            values = np.bincount(self.state[known], minlength=self.facedown_card)
            pairs = known & (values > 1)[self.state]
            return _first(pairs, unseen)
        likes = self._likes(turned[0])
        if not likes.any():
            return _first(unseen)
        if not wrong:
            return _first(likes)
        unlike = self._down & (self.state != self.state[turned[0]])
        # At last the same card again, which is no pair.
        return _first(unlike & known, unlike, np.arange(len(known)) == turned[0])

    @property
    def _questions(self) -> int:
        return self.deck.num_cards // 2

    @property
    def _down(self) -> np.ndarray:
        """Cards of pairs that are not found yet."""
        down = np.ones(self.deck.num_cards, bool)
        down[self.deck["face_up_idx"]] = False
        return down

    def _likes(self, card: int) -> np.ndarray:
        """Known cards that make a pair with it."""
        likes = self._known & self._down & (self.state == self.state[card])
        likes[card] = False
        return likes

    def _marks(self, observation: np.ndarray) -> dict[str, Any]:
        shown = (observation != self.facedown_card) & self._down
        new = bool((shown & ~self._known).any())
        self._known |= shown
        turned = self.deck["in_play_idx"]
        return {"cue": new, "recall": bool(turned) and bool(self._likes(turned[0]).any())}


def _first(*choices: np.ndarray) -> int:
    """The first card of the first choice that has any."""
    return int(next(choice for choice in choices if choice.any()).argmax())


for _game in (RepeatPrevious, Autoencode, Concentration):
    gymnasium.register(f"{_game.__name__}-v0", f"{__name__}:{_game.__name__}")

"""What a controller's cache holds and what its steps cost, noted while episodes run."""

import time
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.adapters.decision_transformer import state_token
from transfer.attachment.memory import Memory
from transfer.cache.cache import PrunedCache
from transfer.envs.rollout import Controller, Told
from transfer.evaluation.benchmark import Row
from transfer.evaluation.held import over_time

#: Tokens of a step, newest first, as shares of what is held.
KINDS = ("kept_states", "kept_returns", "kept_actions")


class MeasuredController:
    """A controller that also measures; the actions are the inner controller's.

    Bytes are those of the running batch divided by the episodes in it.

    Args:
        inner: chooses the actions.
        memory: what its cache comes from; None if it has no cache.
        seeds: of the episodes, in the order in which they are played.

    Attributes:
        act_seconds: wall seconds inside the inner controller, eviction included.
        policy_seconds: wall seconds of observing, scoring and eviction.
    """

    def __init__(
        self,
        inner: Controller,
        memory: Memory | None,
        seeds: Sequence[int],
    ) -> None:
        self._inner, self._memory = inner, memory
        self._waiting = list(seeds)
        self._running: list[int] = []
        self._peak: dict[int, float] = {}
        self._step = 0
        self._cues: dict[int, list[int]] = {}
        self._kept: list[list[list[int]]] = []
        self.act_seconds = 0.0
        self.policy_seconds = 0.0

    def reset(self, episodes: int) -> None:
        """The next `episodes` seeds begin."""
        self._inner.reset(episodes)
        self._running, self._waiting = self._waiting[:episodes], self._waiting[episodes:]
        self._peak = dict.fromkeys(self._running, 0.0)
        self._step, self._cues = 0, {seed: [] for seed in self._running}

    def tell(self, cues: Bool[np.ndarray, " episodes"]) -> None:
        """Which of the states that follow have to be remembered."""
        for row in np.flatnonzero(cues).tolist():
            self._cues[self._running[row]].append(self._step)
        if isinstance(self._inner, Told):
            self._inner.tell(cues)

    def act(
        self,
        states: Float[Tensor, "episodes state"],
        returns_to_go: Float[Tensor, "episodes 1"],
        previous_actions: Float[Tensor, "episodes action"] | None,
    ) -> Float[Tensor, "episodes action"]:
        """The inner controller's actions."""
        before = (self.cache.policy_seconds(), self.cache.peak_bytes()) if self.cache else (0, 0)
        began = time.perf_counter()
        actions = self._inner.act(states, returns_to_go, previous_actions)
        self.act_seconds += time.perf_counter() - began
        self._step += 1
        if self.cache is not None:
            self._note(self.cache, *before)
        return actions

    def select(self, rows: Int[Tensor, "kept"]) -> None:
        """The other episodes have ended."""
        self._inner.select(rows)
        self._running = [self._running[row] for row in rows.tolist()]

    def held(self, seed: int) -> Row:
        """What an episode's cache holds; ask when it ends, before it leaves the batch."""
        if self.cache is None:
            return dict.fromkeys(("kept_age", "kept_cues", *KINDS))
        row, batch = self._running.index(seed), len(self._running)
        return {
            "tokens": self.cache.pruned[0].seen,
            "kept_tokens": fmean(length for layer in self._kept for length in layer[row]),
            **over_time(self.cache, row),
            "cache_bytes": round(self.cache.bytes() / batch),
            "peak_bytes": round(self._peak[seed]),
            "full_bytes": round(self.cache.full_bytes() / batch),
            **_contents(self.cache, row, self._cues[seed]),
        }

    @property
    def cache(self) -> PrunedCache | None:
        """Of the running batch; None if there is none."""
        return self._memory.cache if self._memory is not None else None

    def _note(self, cache: PrunedCache, policy_seconds: float, peak_bytes: int) -> None:
        self.policy_seconds += cache.policy_seconds() - policy_seconds
        self._kept = cache.kept()
        # The most is held within a step, before its eviction; the cache's own peak knows it.
        peak = cache.peak_bytes()
        held = (peak if peak > peak_bytes else cache.bytes()) / len(self._running)
        for seed in self._running:
            self._peak[seed] = max(self._peak[seed], held)


def _contents(cache: PrunedCache, row: int, cues: Sequence[int]) -> Row:
    """Mean age of the tokens an episode holds, in steps, and which share is of which kind.

    Of the states that had to be remembered: the share of them that a head holds.
    """
    heads = [tokens.cpu() for layer in cache.pruned for tokens in layer.positions_of(row)]
    # The newest token always stays, and it is a state.
    ages = torch.cat([tokens.max() - tokens for tokens in heads])
    shares = torch.bincount(ages % len(KINDS), minlength=len(KINDS)) / len(ages)
    age = (ages // len(KINDS)).double().mean().item()
    states = torch.tensor([state_token(step) for step in cues])
    held = fmean(float(torch.isin(states, tokens).float().mean()) for tokens in heads)
    return {
        "kept_age": age,
        "kept_cues": held if cues else None,
        **dict(zip(KINDS, shares.tolist())),
    }

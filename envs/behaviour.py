"""Behaviour policies in numpy and the recording of their episodes in D4RL's arrays.

The network is the one D4RL's files carry under `metadata/policy`: two hidden layers with ReLU, a
mean and a log standard deviation, squashed by tanh.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from transfer.errors import UserError
from transfer.files import replacing

LAYERS = ("fc0", "fc1", "last_fc", "last_fc_log_std")
_LOG_STD = (-20.0, 2.0)
_KEYS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
_STATE_KEYS = ("infos/qpos", "infos/qvel")
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TanhGaussian:
    """A policy `tanh(N(mean, std))`.

    Args:
        weights: `<layer>/weight` as (out, in) and `<layer>/bias` of each of `LAYERS`, float32.
    """

    weights: Mapping[str, np.ndarray]

    def mean_and_log_std(
        self, state: Float[np.ndarray, " state"]
    ) -> tuple[Float[np.ndarray, " action"], Float[np.ndarray, " action"]]:
        """Parameters of the Gaussian before the squashing."""
        hidden = state.astype(np.float32)
        for layer in LAYERS[:2]:
            hidden = np.maximum(self._linear(layer, hidden), 0)
        log_std = np.clip(self._linear("last_fc_log_std", hidden), *_LOG_STD)
        return self._linear("last_fc", hidden), log_std

    def act(self, state: Float[np.ndarray, " state"]) -> Float[np.ndarray, " action"]:
        """The deterministic action."""
        return np.tanh(self.mean_and_log_std(state)[0])

    def sample(
        self, state: Float[np.ndarray, " state"], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, " action"], float]:
        """An action and its log density on the squashed scale."""
        mean, log_std = self.mean_and_log_std(state)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        action = np.tanh(mean + np.exp(log_std) * noise)
        gaussian = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
        return action, float(np.sum(gaussian - np.log(1 - action**2 + 1e-6)))

    def metadata(self) -> dict[str, np.ndarray | np.bytes_]:
        """The entries of `metadata/policy`, as D4RL names them."""
        named: dict[str, np.ndarray | np.bytes_] = {
            f"policy/{name}": array for name, array in self.weights.items()
        }
        return named | {
            "policy/nonlinearity": np.bytes_("relu"),
            "policy/output_distribution": np.bytes_("tanh_gaussian"),
        }

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        with replacing(path) as partial:
            save_file({name: np.ascontiguousarray(w) for name, w in self.weights.items()}, partial)

    @classmethod
    def load(cls, path: Path) -> "TanhGaussian":
        """Read what `save` wrote."""
        return cls(read_arrays(path))

    def _linear(self, layer: str, values: np.ndarray) -> np.ndarray:
        return self.weights[f"{layer}/weight"] @ values + self.weights[f"{layer}/bias"]


def read_arrays(path: Path) -> Arrays:
    """Read a safetensors file of a run folder.

    Raises:
        UserError: it is missing or cut.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is missing or cut; delete the run folder to start anew") from error


class Recorder(gymnasium.Wrapper):
    """Keeps every transition, and the simulator's state before it, until `take` fetches them."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._rows: dict[str, list[Any]] = {}
        self._clear()
        self._state = np.empty(0)

    def __len__(self) -> int:
        return len(self._rows["rewards"])

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        state, info = self.env.reset(**options)
        self._state = state
        return state, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict]:
        """Step and record."""
        simulator = self.unwrapped.data  # pyright: ignore[reportAttributeAccessIssue]
        before = simulator.qpos.copy(), simulator.qvel.copy()
        state, reward, terminated, truncated, info = self.env.step(action)
        timeout = truncated and not terminated
        row = (self._state, np.array(action), reward, state, terminated, timeout, *before)
        for key, value in zip((*_KEYS, *_STATE_KEYS), row):
            self._rows[key].append(value)
        self._state = state
        return state, reward, terminated, truncated, info

    def take(self) -> Arrays:
        """The transitions since the last call, in D4RL's dtypes."""
        taken = {key: as_column(key, rows) for key, rows in self._rows.items()}
        self._clear()
        return taken

    def _clear(self) -> None:
        self._rows = {key: [] for key in (*_KEYS, *_STATE_KEYS)}


def as_column(key: str, rows: list) -> np.ndarray:
    """One array of a D4RL file: bool for flags, float32 otherwise."""
    return np.asarray(rows, dtype=np.bool_ if key in ("terminals", "timeouts") else np.float32)


def record_episodes(
    policy: TanhGaussian, env: gymnasium.Env, transitions: int, seed: int
) -> Arrays:
    """Whole episodes of the stochastic policy until at least `transitions` steps are recorded."""
    rng = np.random.default_rng(seed)
    recorder = Recorder(env)
    log_probs: list[float] = []
    state, _ = recorder.reset(seed=seed)
    while True:
        action, log_prob = policy.sample(state, rng)
        log_probs.append(log_prob)
        state, _, terminated, truncated, _ = recorder.step(action)
        if terminated or truncated:
            if len(recorder) >= transitions:
                break
            state, _ = recorder.reset()
    return recorder.take() | {"infos/action_log_probs": as_column("log_probs", log_probs)}


def deterministic_returns(
    policy: TanhGaussian, env: gymnasium.Env, seeds: range
) -> Float[np.ndarray, " episodes"]:
    """Return of one episode per seed, without sampling."""
    returns = []
    for seed in seeds:
        state, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            state, reward, terminated, truncated, _ = env.step(policy.act(state))
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    return np.array(returns)

"""The behaviour learner: sbx's TQC, saved without pickles and able to go on from its recording."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from transfer.envs.behaviour import LAYERS, Arrays, Recorder, TanhGaussian, read_arrays
from transfer.errors import UserError
from transfer.files import replacing

# Of sbx's settings tried on Hopper, the fastest on one core that still learns: a block of updates
# runs as one compiled loop.
_SETTINGS = {
    "learning_starts": 5000,
    "train_freq": 16,
    "gradient_steps": 16,
    "batch_size": 128,
    "policy_kwargs": {"net_arch": [256, 256]},
    "top_quantiles_to_drop_per_net": 5,
}
_STATES = ("actor_state", "qf1_state", "qf2_state")


class Learner:
    """TQC on one recorded environment.

    Args:
        env: keeps the transitions.
        steps: capacity of the replay buffer, the steps of the whole run.
        seed: of networks, exploration and replay.

    Raises:
        UserError: sbx-rl is not installed.
    """

    def __init__(self, env: Recorder, steps: int, seed: int) -> None:
        try:
            import sbx  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(
                f"collecting data needs sbx-rl ({error}); run `pip install namm-transfer[collect]`"
            ) from error
        from stable_baselines3.common.logger import (  # pyright: ignore[reportMissingImports]
            Logger,
        )

        self._model: Any = sbx.TQC("MlpPolicy", env, seed=seed, buffer_size=steps, **_SETTINGS)
        # Its own would leave a folder in the system's temporary one at every call of `learn`.
        self._model.set_logger(Logger(None, []))

    def learn(self, steps: int) -> None:
        """Act and train for `steps` environment steps (rounded up to whole blocks)."""
        self._model.learn(steps, reset_num_timesteps=False)

    def policy(self) -> TanhGaussian:
        """The present actor in numpy."""
        parameters = self._model.policy.actor_state.params["params"]
        weights = {}
        for layer, name in zip(LAYERS, sorted(parameters), strict=True):
            weights[f"{layer}/weight"] = np.asarray(parameters[name]["kernel"], np.float32).T
            weights[f"{layer}/bias"] = np.asarray(parameters[name]["bias"], np.float32)
        return TanhGaussian(weights)

    def save(self, path: Path) -> None:
        """Write networks, optimisers and the random key; the replay buffer is the recording."""
        import jax  # pyright: ignore[reportMissingImports]

        leaves = jax.tree.leaves(self._state())
        arrays = {f"{index:04}": np.array(leaf) for index, leaf in enumerate(leaves)}
        with replacing(path) as partial:
            save_file(arrays, partial)

    def restore(self, path: Path, recorded: Arrays) -> None:
        """Go back to a saved state, with the transitions recorded until then.

        Raises:
            UserError: the file is missing, cut or of other networks.
        """
        import jax  # pyright: ignore[reportMissingImports]

        leaves, structure = jax.tree.flatten(self._state())
        saved = [array for _, array in sorted(read_arrays(path).items())]
        if [np.shape(leaf) for leaf in leaves] != [array.shape for array in saved]:
            raise UserError(f"{path} is of another version of sbx-rl; delete the run folder")
        self._set_state(jax.tree.unflatten(structure, [jax.numpy.asarray(a) for a in saved]))
        self._fill(recorded)
        self._model.num_timesteps = len(recorded["rewards"])

    def _state(self) -> dict[str, Any]:
        states = {name: getattr(self._model.policy, name) for name in _STATES}
        return states | {"entropy": self._model.ent_coef_state, "key": self._model.key}

    def _set_state(self, state: dict[str, Any]) -> None:
        for name in _STATES:
            setattr(self._model.policy, name, state[name])
        self._model.ent_coef_state, self._model.key = state["entropy"], state["key"]

    def _fill(self, recorded: Arrays) -> None:
        ended = recorded["terminals"] | recorded["timeouts"]
        columns = ("observations", "next_observations", "actions", "rewards")
        for row in range(len(ended)):
            values = [recorded[name][row : row + 1] for name in columns]
            information = [{"TimeLimit.truncated": bool(recorded["timeouts"][row])}]
            self._model.replay_buffer.add(*values, ended[row : row + 1], information)

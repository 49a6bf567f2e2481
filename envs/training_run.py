"""The folder of a behaviour policy's training: checkpoints and every recorded step.

`checkpoints.json` is written last and names what counts, so a run stopped at any moment goes on
from its last whole checkpoint.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from transfer.envs.behaviour import Arrays, TanhGaussian, read_arrays
from transfer.envs.learner import Learner
from transfer.errors import UserError
from transfer.files import read_json, replacing, write_json


@dataclass(frozen=True)
class Checkpoint:
    """A point of training: the steps made since the start, and what the policy then returned."""

    steps: int
    eval_mean: float
    eval_std: float
    train_mean: float | None
    seconds: float


@dataclass(frozen=True)
class TrainingRun:
    """Reads and writes the folder.

    Args:
        folder: of the run.
        settings: what a continued run must share, such as the environment and the seed.
    """

    folder: Path
    settings: dict[str, str | int]

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints so far; none if the folder is new.

        Raises:
            UserError: the folder belongs to a run with other settings.
        """
        if not self._list.exists():
            return []
        content = read_json(self._list)
        if content["settings"] != self.settings:
            raise UserError(
                f"{self.folder} holds a run with settings {content['settings']}, not"
                f" {self.settings}; choose another --out"
            )
        return [Checkpoint(**one) for one in content["checkpoints"]]

    def commit(self, learner: Learner, taken: Arrays, checkpoints: Sequence[Checkpoint]) -> None:
        """Add the last of `checkpoints`, with the transitions since the one before it."""
        steps = checkpoints[-1].steps
        learner.policy().save(self._file("actor", steps))
        learner.save(self._file("learner", steps))
        self._write_steps(steps, taken)
        listed = [asdict(one) for one in checkpoints]
        write_json(self._list, {"settings": self.settings, "checkpoints": listed})
        for one in checkpoints[:-1]:
            self._file("learner", one.steps).unlink(missing_ok=True)

    def resume(self, learner: Learner, checkpoints: Sequence[Checkpoint]) -> None:
        """Put the learner back to the last checkpoint.

        The episode that was running then is lost with its simulator: it ends as a timeout.
        """
        steps = checkpoints[-1].steps
        last = read_arrays(self._file("replay", steps))
        last["timeouts"][-1] |= not last["terminals"][-1]
        self._write_steps(steps, last)
        learner.restore(self._file("learner", steps), self.transitions(checkpoints, steps))

    def policy(self, one: Checkpoint) -> TanhGaussian:
        """The actor of a checkpoint."""
        return TanhGaussian.load(self._file("actor", one.steps))

    def transitions(self, checkpoints: Sequence[Checkpoint], until: int) -> Arrays:
        """Every transition of training up to a checkpoint's steps, in order."""
        steps = [one.steps for one in checkpoints if one.steps <= until]
        parts = [read_arrays(self._file("replay", end)) for end in steps]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _write_steps(self, steps: int, arrays: Arrays) -> None:
        with replacing(self._file("replay", steps)) as partial:
            save_file(arrays, partial)

    @property
    def _list(self) -> Path:
        return self.folder / "checkpoints.json"

    def _file(self, kind: str, steps: int) -> Path:
        return self.folder / f"{kind}_{steps:09}.safetensors"

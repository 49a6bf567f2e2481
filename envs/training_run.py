"""The folder of a behaviour policy's training: checkpoints and every recorded step.

`checkpoints.json` is written last and names what counts, with a digest of each file, so a run
stopped at any moment goes on from its last whole checkpoint, and never from a file that was changed
since.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from transfer.envs.behaviour import Arrays, TanhGaussian, read_arrays
from transfer.envs.d4rl import file_sha256
from transfer.envs.learner import Learner
from transfer.errors import UserError
from transfer.files import read_sealed, replacing, write_sealed

_REMEDY = "put it back, or delete the run folder to start anew"


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
            UserError: the folder belongs to a run with other settings, or its list is damaged.
        """
        listed = self._read().checkpoints
        try:
            return [Checkpoint(**one) for one in listed]
        except TypeError as error:
            raise UserError(
                f"{self._list} is no list of checkpoints ({error}); {_REMEDY}"
            ) from error

    def commit(self, learner: Learner, taken: Arrays, checkpoints: Sequence[Checkpoint]) -> None:
        """Add the last of `checkpoints`, with the transitions since the one before it."""
        steps = checkpoints[-1].steps
        learner.policy().save(self._file("actor", steps))
        learner.save(self._file("learner", steps))
        with replacing(self._file("replay", steps)) as partial:
            save_file(taken, partial)
        written = [self._file(kind, steps) for kind in ("actor", "learner", "replay")]
        listed = self._read()
        listed.files |= {path.name: file_sha256(path) for path in written}
        listed.checkpoints = [asdict(one) for one in checkpoints]
        self._write(listed)
        for one in checkpoints[:-1]:
            self._file("learner", one.steps).unlink(missing_ok=True)

    def resume(self, learner: Learner, checkpoints: Sequence[Checkpoint]) -> None:
        """Put the learner back to the last checkpoint.

        The episode that was running then is lost with its simulator: it ends as a timeout.
        """
        steps, listed = checkpoints[-1].steps, self._read()
        listed.resumed = sorted({*listed.resumed, steps})
        self._write(listed)
        learner.restore(self._checked("learner", steps), self.transitions(checkpoints, steps))

    def policy(self, one: Checkpoint) -> TanhGaussian:
        """The actor of a checkpoint."""
        return TanhGaussian.load(self._checked("actor", one.steps))

    def transitions(self, checkpoints: Sequence[Checkpoint], until: int) -> Arrays:
        """Every transition of training up to a checkpoint's steps, in order."""
        resumed, parts = self._read().resumed, []
        for end in (one.steps for one in checkpoints if one.steps <= until):
            part = read_arrays(self._checked("replay", end))
            if end in resumed:
                part["timeouts"][-1] |= not part["terminals"][-1]
            parts.append(part)
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _read(self) -> "_Listed":
        if not self._list.exists():
            return _Listed()
        content = read_sealed(self._list, _REMEDY)
        if content.get("settings") != self.settings:
            raise UserError(
                f"{self.folder} holds a run with settings {content.get('settings')}, not"
                f" {self.settings}; choose another --out"
            )
        # Runs of earlier versions list no files and no resumes.
        return _Listed(*(content.get(name, empty) for name, empty in vars(_Listed()).items()))

    def _write(self, listed: "_Listed") -> None:
        write_sealed(self._list, {"settings": self.settings, **vars(listed)})

    def _checked(self, kind: str, steps: int) -> Path:
        """A file that is as it was written."""
        path = self._file(kind, steps)
        told = self._read().files.get(path.name)
        if told is not None and (not path.is_file() or told != file_sha256(path)):
            raise UserError(f"{path} is missing or was changed after it was written; {_REMEDY}")
        return path

    @property
    def _list(self) -> Path:
        return self.folder / "checkpoints.json"

    def _file(self, kind: str, steps: int) -> Path:
        return self.folder / f"{kind}_{steps:09}.safetensors"


@dataclass
class _Listed:
    """What `checkpoints.json` says beside the settings.

    Attributes:
        checkpoints: as `Checkpoint` has it.
        files: SHA-256 of each.
        resumed: steps of checkpoints from which training went on in another process.
    """

    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    resumed: list[int] = field(default_factory=list)

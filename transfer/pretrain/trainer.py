"""How every small model is trained: one loop, a state to go on from, a log, the weights in the end.

A run that was stopped continues from its last saved state when it is started again with the same
settings, and ends with the same weights as one that was not.

training_state.pt    of an unfinished run: everything that changes while training, and a digest
training.jsonl       one record a saved state
CARD.md              written last: the model is finished
"""

import hashlib
import io
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel
from transformers.utils import logging

from transfer.errors import UserError, resumable
from transfer.evaluation.threads import torch_threads
from transfer.files import locked, replacing, writing
from transfer.progress import bars

_FINAL_RATE = 0.02
#: Bytes of a digest, and what a file of `torch.save` begins with.
_DIGEST, _ZIP = 32, b"PK"

T = TypeVar("T")
#: A line of the log.
Record = dict[str, int | float]


class Diverged(UserError):
    """A loss or a gradient is no number any more."""


class Lesson(ABC, Generic[T]):
    """What a kind of model is taught.

    Attributes:
        parts: everything that changes while training, by name; each has `state_dict` and
            `load_state_dict`.
        steps: of the whole run.
    """

    parts: Mapping[str, Any]
    steps: int

    @abstractmethod
    def update(self, step: int) -> T:
        """Do a step, counted from 0, and say what its record needs."""

    @abstractmethod
    def due(self, step: int) -> bool:
        """Whether the state is saved after so many steps; it always is after the last."""

    @abstractmethod
    def record(self, step: int, updates: Sequence[T]) -> Record:
        """What is logged after so many steps, of what the updates since the last record said."""


@dataclass
class Trainer(Generic[T]):
    """A run of training, taken up where it was stopped.

    Attributes:
        lesson: what is trained, and how.
        folder: of the run.
        settings: what identifies it, see `settings`.
        progress: shown.
        step: optimiser steps done.
        log: one record a saved state.
        seconds: of training, in all sittings.

    Raises:
        UserError: the folder's state is damaged, of another version, or of a run with other
            settings.
    """

    lesson: Lesson[T]
    folder: Path
    settings: str
    progress: Progress
    step: int = 0
    log: list[Record] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if state_path(self.folder).exists():
            self._resume()

    def train(self) -> None:
        """Do all steps that are left."""
        bar = self.progress.add_task("training", total=self.lesson.steps, completed=self.step)
        updates, began = [], time.perf_counter()
        while self.step < self.lesson.steps:
            updates.append(self._update())
            self.step += 1
            self.progress.advance(bar)
            if self.step == self.lesson.steps or self.lesson.due(self.step):
                self.note(self.lesson.record(self.step, updates), began)
                updates, began = [], time.perf_counter()

    def _update(self) -> T:
        try:
            return self.lesson.update(self.step)
        except Diverged as error:
            saved = "the state before is saved" if self.log else "nothing was saved yet"
            raise UserError(
                f"{error} at step {self.step + 1} of {self.lesson.steps}, {saved} in {self.folder};"
                " use a smaller --lr and another --out, or look for what is wrong in the data"
            ) from error

    def note(self, record: Record, began: float) -> None:
        """Log what was done since `began` on `time.perf_counter`, and save the state."""
        self.seconds += time.perf_counter() - began
        self.log.append({**record, "seconds": round(self.seconds, 1)})
        state = {
            "settings": self.settings,
            "parts": {name: part.state_dict() for name, part in self.lesson.parts.items()},
            "progress": json.dumps([self.step, self.log, self.seconds]),
        }
        _write_state(state_path(self.folder), state)
        self._write_log()
        self.progress.console.print(json.dumps(self.log[-1]), soft_wrap=True)

    def _write_log(self) -> None:
        with replacing(self.folder / "training.jsonl") as partial:
            partial.write_text("".join(f"{json.dumps(one)}\n" for one in self.log))

    def _resume(self) -> None:
        state = _read_state(state_path(self.folder))
        if state["settings"] != self.settings:
            raise UserError(
                f"{self.folder} holds an unfinished run with other settings or data;"
                f" repeat its command, or choose another --out"
            )
        for name, part in self.lesson.parts.items():
            part.load_state_dict(state["parts"][name])
        self.step, self.log, self.seconds = json.loads(state["progress"])
        # It was killed between the two, or somebody touched it.
        self._write_log()


def state_path(folder: Path) -> Path:
    """The file of an unfinished run."""
    return folder / "training_state.pt"


def _write_state(path: Path, state: Mapping[str, Any]) -> None:
    """A digest, which torch has none of, then what `torch.save` writes."""
    content = io.BytesIO()
    torch.save(state, content)
    with replacing(path) as partial, partial.open("wb") as file:
        file.writelines((_digest(content.getbuffer()), content.getbuffer()))


def _read_state(path: Path) -> dict[str, Any]:
    content = memoryview(path.read_bytes())
    told, own = content[:_DIGEST], content[_DIGEST:]
    if told != _digest(own):
        what = "of an earlier version" if content[:2] == _ZIP else "cut or damaged"
        raise UserError(f"{path} is {what}; delete it to start anew")
    return torch.load(io.BytesIO(own), weights_only=True)


def _digest(content: memoryview) -> bytes:
    return hashlib.sha256(content).digest()


@contextmanager
def training(folder: Path, threads: int | None = None) -> Iterator[Progress]:
    """Hold the folder of a run, and show its progress; a run that ends well leaves no state.

    Args:
        folder: of the finished model.
        threads: CPU threads of torch; by default its own choice.

    Raises:
        UserError: the folder holds a finished model, or another run writes into it.
    """
    how = f"the same command goes on from the last saved state in {folder}"
    with (
        locked(folder),
        torch_threads(threads),
        resumable(how),
        bars() as progress,
    ):
        if (folder / "CARD.md").exists():
            # Left by a run that was killed after its last word.
            state_path(folder).unlink(missing_ok=True)
            raise UserError(f"{folder} holds a finished model; choose another --out or delete it")
        yield progress
        state_path(folder).unlink()


def settings(config: Any, ignored: Sequence[str], **more: Any) -> str:
    """What identifies a run, as JSON: all options but those that change no weight, and `more`."""
    told = {name: value for name, value in asdict(config).items() if name not in ignored}
    return json.dumps(told | more)


@dataclass(frozen=True)
class Step:
    """A step: its stage and its place in that, from 0, whether that ends with it, and its rate."""

    stage: int
    index: int
    last: bool
    rate: float


def schedule(steps: Sequence[int], peak: float, warmup: int) -> list[Step]:
    """The steps of stages of so many each: warm-up, constant, linear decay in the last stage."""
    found: list[Step] = []
    for stage, count in enumerate(steps):
        for index in range(count):
            decay = 1 - index / count if stage == len(steps) - 1 else 1.0
            rate = peak * min(1.0, (len(found) + 1) / max(1, warmup)) * max(_FINAL_RATE, decay)
            found.append(Step(stage, index, index == count - 1, rate))
    return found


def adamw(weights: list[nn.Parameter], decay: float = 0.01, beta: float = 0.98) -> AdamW:
    """The optimiser of these; `descend` sets its rate. `beta`: of the squared gradients."""
    return AdamW(weights, betas=(0.9, beta), weight_decay=decay, fused=True)


def descend(
    optimizer: Optimizer,
    loss: Float[Tensor, ""],
    rate: float,
    clipped: Iterable[nn.Parameter],
    norm: float = 1.0,
) -> None:
    """Do one step down the loss, the gradients of `clipped` together no longer than `norm`.

    Raises:
        Diverged: the loss or its gradients are NaN or infinite; no weight has changed.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    length = nn.utils.clip_grad_norm_(clipped, norm)
    for what, value in (("loss", loss), ("gradient", length)):
        if not value.isfinite():
            raise Diverged(f"the {what} is {value.item()}")
    optimizer.step()


def store_half(model: PreTrainedModel, folder: Path) -> None:
    """Weights as float16 on disk and, rounded likewise, as float32 in memory."""
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    with writing(folder):
        model.half().save_pretrained(folder)
    if bars:
        logging.enable_progress_bar()
    # transformers leaves it to its owner alone
    (folder / "model.safetensors").chmod(0o644)
    model.float().eval()

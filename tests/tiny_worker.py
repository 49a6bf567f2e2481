"""What does jobs in the tests of the engines; workers import it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from transfer.errors import SimulationError, UserError


@dataclass
class Tiny:
    """Made in every worker."""

    folder: Path
    device: str

    def __post_init__(self) -> None:
        (self.folder / f"made-{os.getpid()}").touch()

    def square(self, number: float) -> float:
        return number * number

    def sum(self, seed: int) -> float:
        """Depends on the last bit of every number, and on torch's threads."""
        return float(torch.rand(100_000, generator=torch.Generator().manual_seed(seed)).sum())

    def facts(self, _: object) -> tuple[int, int, str]:
        return os.getpid(), torch.get_num_threads(), self.device

    def refuse(self, number: int) -> None:
        raise UserError(f"number {number} is refused; use another")

    def break_down(self, _: object) -> None:
        raise SimulationError("the simulator broke down")

    def divide(self, number: float) -> float:
        return 1 / number

    def die(self, times: int) -> int:
        """Die so often, then say how often."""
        died = len(list(self.folder.glob("died-*")))
        if died < times:
            (self.folder / f"died-{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return died

    def wait(self, number: float) -> int:
        """Forever if 0."""
        (self.folder / f"waits-{os.getpid()}").touch()
        time.sleep(number or 600)
        return os.getpid()


class Broken:
    """Cannot be made."""

    def __init__(self, device: str) -> None:
        raise UserError(f"there is no model on {device}; use another")

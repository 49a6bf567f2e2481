"""What changes while a Decision Transformer trains, saved so that a stopped run can go on."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import DecisionTransformerModel

from transfer.pretrain.control_card import Record
from transfer.pretrain.run_state import load_state, save_state


@dataclass
class Run:
    """A training run between two snapshots.

    Attributes:
        model: being trained.
        optimizer: of its parameters.
        windows_rng: draws the windows; dropout uses the global generator.
        step: optimiser steps done.
        best_step: of the snapshot with the highest return so far.
        best_return: its mean return.
        best: its weights.
        log: one record per snapshot.
        seconds: of training and comparing, in all sittings.
    """

    model: DecisionTransformerModel
    optimizer: torch.optim.Optimizer
    windows_rng: torch.Generator
    step: int = 0
    best_step: int = 0
    best_return: float = -math.inf
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    log: list[Record] = field(default_factory=list)
    seconds: float = 0.0

    def save(self, folder: Path, settings: str) -> None:
        """Write the state and the log, atomically each; `settings` identify the run."""
        progress = [self.step, self.best_step, self.best_return, self.log, self.seconds]
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "windows_rng": self.windows_rng.get_state(),
            "dropout_rng": torch.get_rng_state(),
            "best": self.best,
            "progress": json.dumps(progress),
        }
        save_state(folder, settings, state, self.log)

    def resume(self, folder: Path, settings: str) -> None:
        """Go back to the saved state, random generators included.

        Raises:
            UserError: the file is damaged, or belongs to a run with other settings.
        """
        state = load_state(folder, settings)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.windows_rng.set_state(state["windows_rng"])
        torch.set_rng_state(state["dropout_rng"])
        self.best = state["best"]
        progress = json.loads(state["progress"])
        self.step, self.best_step, self.best_return, self.log, self.seconds = progress

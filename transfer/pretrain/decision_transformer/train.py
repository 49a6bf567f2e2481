"""Trains a Decision Transformer on D4RL-format files and keeps the snapshot that acts best.

The loss goes on falling while the return at high targets gets worse, so snapshots are compared by
playing episodes, on seeds that the final report does not use.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from transfer.adapters.control_model import ControlModel, load_control_model, save_control_model
from transfer.adapters.decision_transformer import WindowController
from transfer.arguments import typed
from transfer.envs.d4rl import HORIZON, Dataset
from transfer.envs.datasets import read_dataset
from transfer.envs.environment import env_name, make_envs
from transfer.envs.rollout import refuse_failures, rollout
from transfer.errors import UserError
from transfer.pretrain.decision_transformer.card import SELECTION_SEED, write_card
from transfer.pretrain.decision_transformer.config import PretrainConfig
from transfer.pretrain.decision_transformer.data import Windows, make_windows
from transfer.pretrain.trainer import Lesson, Record, Trainer, adamw, descend, settings, training


@typed
def pretrain(config: PretrainConfig) -> ControlModel:
    """Train, keep the best snapshot, report it over `report_episodes` episodes, and write its card.

    Returns:
        The saved model, as loaded back from `config.out`.

    Raises:
        UserError: unusable data, or `out` holds a finished model or a run with other settings.
    """
    datasets = [read_dataset(name) for name in config.dataset]
    with training(config.out) as progress:
        envs = make_envs(config.env, config.eval_episodes, config.env_version)
        check_data(config.env, envs[0], datasets)
        lesson = ControlLesson(config, datasets, envs)
        told = settings(config, ("out",), dataset=dict(lesson.control.data))
        trainer = Trainer(lesson, config.out, told, progress)
        trainer.train()
        for env in envs:
            env.close()
        lesson.control.model.load_state_dict(lesson.best.weights)
        save_control_model(lesson.control, config.out, dtype=torch.float16)
        finished = load_control_model(config.out)
        write_card(config, finished, datasets, trainer, lesson.best.step)
    return finished


def check_data(name: str, env: gymnasium.Env, datasets: Sequence[Dataset]) -> None:
    """Refuse data that are not of this environment.

    Raises:
        UserError: they have states or actions of other sizes, or longer episodes.
    """
    spaces = (env.observation_space.shape, env.action_space.shape)
    for dataset in datasets:
        found = (dataset.observations.shape[1:], dataset.actions.shape[1:])
        if found != spaces:
            raise UserError(
                f"{dataset.name} has states and actions of sizes {found} but {name} has"
                f" {spaces}; name the data of this environment or another --env"
            )
        longest = max(map(len, dataset.trajectories), default=0)
        if longest > HORIZON:
            raise UserError(
                f"{dataset.name} has an episode of {longest} steps, over {HORIZON}; split it first"
            )


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine from the peak to a twentieth of it at the last step."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.lr * min(1.0, (step + 1) / max(config.warmup, 1)) * (0.05 + 0.95 * cosine)


@dataclass
class Best:
    """The snapshot with the highest mean return so far: after which step, that, and its weights."""

    step: int = 0
    mean_return: float = -math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """What is saved."""
        return vars(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was saved."""
        vars(self).update(state)


@dataclass(frozen=True)
class Draws:
    """The generators of a run: one draws its windows; dropout uses the global one."""

    windows: torch.Generator

    def state_dict(self) -> dict[str, Tensor]:
        """The states of both."""
        return {"windows": self.windows.get_state(), "dropout": torch.get_rng_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go back to these."""
        self.windows.set_state(state["windows"])
        torch.set_rng_state(state["dropout"])


class ControlLesson(Lesson[float]):
    """To do what was done in the data, and to be judged by playing now and then."""

    def __init__(
        self, config: PretrainConfig, datasets: Sequence[Dataset], envs: list[gymnasium.Env]
    ) -> None:
        trajectories = [one for dataset in datasets for one in dataset.trajectories]
        self.config, self.envs, self.steps = config, envs, config.steps
        self.windows = make_windows(trajectories, config.context, config.scale, config.delayed)
        self.model = _new_model(config, self.windows)
        self.control = ControlModel(
            model=self.model,
            state_mean=self.windows.state_mean,
            state_std=self.windows.state_std,
            target_returns=config.asked,
            env=env_name(config.env),
            quality=config.quality,
            context=config.context,
            scale=config.scale,
            delayed=config.delayed,
            data={dataset.name: dataset.sha256 for dataset in datasets},
        )
        self.optimizer = adamw([*self.model.parameters()], config.weight_decay, beta=0.999)
        self.draws, self.best = Draws(torch.Generator().manual_seed(config.seed)), Best()
        self.parts = {"model": self.model, "optimizer": self.optimizer}
        self.parts |= {"draws": self.draws, "best": self.best}

    def update(self, step: int) -> float:
        """Do a step; its loss."""
        batch = self.windows.sample(self.config.batch, self.draws.windows)
        self.model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bf16):
            predicted = self.model(**batch).action_preds
        loss = torch.nn.functional.mse_loss(predicted.float(), batch["actions"])
        rate = learning_rate(self.config, step)
        descend(self.optimizer, loss, rate, self.model.parameters(), norm=0.25)
        return loss.item()

    def due(self, step: int) -> bool:
        """Whether it is time for a snapshot."""
        return step % self.config.eval_every == 0

    def record(self, step: int, updates: Sequence[float]) -> Record:
        """The mean loss, and the return of a snapshot, which is kept if it is the best."""
        config = self.config
        self.model.eval()
        episodes, _ = rollout(
            WindowController(self.control),
            self.envs,
            range(SELECTION_SEED, SELECTION_SEED + config.eval_episodes),
            config.asked[0],
            config.scale,
            delayed=config.delayed,
        )
        refuse_failures(episodes)
        returns = np.array([episode.episode_return for episode in episodes])
        mean = float(returns.mean())
        if mean > self.best.mean_return:
            weights = {name: value.clone() for name, value in self.model.state_dict().items()}
            self.best.step, self.best.mean_return, self.best.weights = step, mean, weights
        return {
            "step": step,
            "loss": float(np.mean(updates)),
            "return_mean": mean,
            "return_std": float(returns.std()),
        }


def _new_model(config: PretrainConfig, windows: Windows) -> DecisionTransformerModel:
    torch.manual_seed(config.seed)
    architecture = DecisionTransformerConfig(
        state_dim=windows.states.shape[1],
        act_dim=windows.actions.shape[1],
        hidden_size=config.hidden,
        n_layer=config.layers,
        n_head=config.heads,
        max_ep_len=HORIZON,
        # every position id is zero, so one row of this table is used
        n_positions=4,
        resid_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        # the defaults lie outside the vocabulary of one token
        bos_token_id=None,  # pyright: ignore[reportArgumentType]
        eos_token_id=None,  # pyright: ignore[reportArgumentType]
    )
    return DecisionTransformerModel(architecture)

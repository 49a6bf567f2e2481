"""Trains a Decision Transformer on D4RL-format files and keeps the snapshot that acts best.

The loss goes on falling while the return at high targets gets worse, so snapshots are compared by
playing episodes, on seeds that the final report does not use.

Where memory decides, only a curriculum by competence learns in minutes: longer episodes come when
the shorter ones are mastered. Begun long, or lengthened by the clock, it may learn nothing.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from transfer.adapters.control_model import ControlModel, load_control_model, save_control_model
from transfer.arguments import typed
from transfer.envs.d4rl import Dataset
from transfer.envs.datasets import read_dataset
from transfer.envs.environment import environment, make_envs
from transfer.errors import UserError
from transfer.pretrain.decision_transformer.card import SELECTION_SEED, write_card
from transfer.pretrain.decision_transformer.config import PretrainConfig
from transfer.pretrain.decision_transformer.data import (
    Batch,
    Episodes,
    Steps,
    Windows,
    lay_out,
    make_episodes,
    make_windows,
)
from transfer.pretrain.decision_transformer.play import play, protocols, scores
from transfer.pretrain.trainer import Lesson, Record, Trainer, adamw, descend, settings, training

#: Updates over which competence is measured.
_RECENT = 20


@typed
def pretrain(config: PretrainConfig) -> ControlModel:
    """Train, keep the best snapshot, report it over `report_episodes` episodes, and write its card.

    Returns:
        The saved model, as loaded back from `config.out`.

    Raises:
        UserError: unusable data, or `out` holds a finished model or a run with other settings.
    """
    env = environment(config.env, config.env_version)
    datasets = [read_dataset(name, env) for name in config.dataset]
    with training(config.out) as progress:
        check_lengths(config, datasets)
        envs = make_envs(env, config.eval_episodes)
        lesson = ControlLesson(config, datasets, envs)
        told = settings(
            config, ("out",), dataset=[[dataset.name, dataset.sha256] for dataset in datasets]
        )
        trainer = Trainer(lesson, config.out, told, progress)
        trainer.train()
        _warn_of_what_was_not_reached(lesson)
        for one in envs:
            one.close()
        lesson.control.model.load_state_dict(lesson.best.weights)
        save_control_model(lesson.control, config.out, dtype=torch.float16)
        finished = load_control_model(config.out)
        write_card(config, finished, datasets, trainer, lesson.best.step)
    return finished


def _warn_of_what_was_not_reached(lesson: "ControlLesson") -> None:
    lengths, level = lesson.config.curriculum, lesson.curriculum.level
    if lengths and level < len(lengths) - 1:
        recent = lesson.curriculum.recent
        share = f"{sum(recent) / len(recent):.0%}" if recent else "too few"
        print(
            f"warning: no episode of more than {lengths[level]} steps was learned from, since "
            f"{share} of the last actions were right and --competence asks for "
            f"{lesson.config.competence:.0%}; lower it, or record with a higher --skilled",
            file=sys.stderr,
        )


def check_lengths(config: PretrainConfig, datasets: Sequence[Dataset]) -> None:
    """Refuse data with episodes that are longer than the model's table of time steps.

    Raises:
        UserError: one is.
    """
    for dataset in datasets:
        longest = max(map(len, dataset.trajectories), default=0)
        if longest > config.max_ep_len:
            raise UserError(
                f"{dataset.name} has an episode of {longest} steps, over {config.max_ep_len}; "
                "split it first or raise --max-ep-len"
            )


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine from the peak to a twentieth of it at the last step."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.lr * min(1.0, (step + 1) / max(config.warmup, 1)) * (0.05 + 0.95 * cosine)


@dataclass
class Best:
    """The snapshot with the highest mean score so far: after which step, that, and its weights."""

    step: int = 0
    score: float = -math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, step: int, score: float, model: nn.Module) -> None:
        """Take it if it is no worse: of equals the one that has learned longer."""
        if score >= self.score:
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            self.step, self.score, self.weights = step, score, weights

    def state_dict(self) -> dict[str, Any]:
        """What is saved."""
        return vars(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was saved."""
        vars(self).update(state)


@dataclass(frozen=True)
class Draws:
    """The generators of a run: one draws its batches; dropout uses the global one."""

    batches: torch.Generator

    def state_dict(self) -> dict[str, Tensor]:
        """The states of both."""
        return {"batches": self.batches.get_state(), "dropout": torch.get_rng_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go back to these."""
        self.batches.set_state(state["batches"])
        torch.set_rng_state(state["dropout"])


@dataclass
class Curriculum:
    """How far the lengths of episodes have come, and the share of right actions of late."""

    level: int = 0
    recent: list[float] = field(default_factory=list)

    def note(self, right: float, enough: float, last: int) -> None:
        """Count an update; the next level is reached when the recent ones were good enough."""
        self.recent = [*self.recent, right][-_RECENT:]
        competent = len(self.recent) == _RECENT and sum(self.recent) >= enough * _RECENT
        if competent and self.level < last:
            self.level, self.recent = self.level + 1, []

    def state_dict(self) -> dict[str, Any]:
        """What is saved."""
        return vars(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was saved."""
        vars(self).update(state)


class Update(NamedTuple):
    """The loss of a step, and the share of right actions; real ones are neither right nor wrong."""

    loss: float
    right: float | None


class ControlLesson(Lesson[Update]):
    """To do what was done in the data, and to be judged by playing now and then."""

    def __init__(
        self, config: PretrainConfig, datasets: Sequence[Dataset], envs: list[gymnasium.Env]
    ) -> None:
        trajectories = [one for dataset in datasets for one in dataset.trajectories]
        self.config, self.envs, self.steps = config, envs, config.steps
        self.env = environment(config.env, config.env_version)
        usual = "none" if self.env.choices else "data"
        normalise = (config.normalise or usual) == "data"
        steps = lay_out(trajectories, config.scale, config.delayed, normalise)
        self.draws, self.best = Draws(torch.Generator().manual_seed(config.seed)), Best()
        self.curriculum = Curriculum()
        self.source: Windows | Episodes
        if config.whole_episodes:
            self.source = make_episodes(steps, config.curriculum)
        else:
            self.source = make_windows(steps, config.context)
        self.model = _new_model(config, steps, bool(self.env.choices))
        self.control = ControlModel(
            model=self.model,
            state_mean=steps.state_mean,
            state_std=steps.state_std,
            target_returns=config.asked,
            env=self.env.spelled,
            quality=config.quality,
            context=config.context,
            scale=config.scale,
            delayed=config.delayed,
            data=_digests(datasets),
            choices=self.env.choices,
        )
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = adamw(trained, config.weight_decay, beta=0.999)
        self.parts = {"model": self.model, "optimizer": self.optimizer, "draws": self.draws}
        self.parts |= {"best": self.best, "curriculum": self.curriculum}

    def update(self, step: int) -> Update:
        """Do a step; how it went."""
        batch = self._batch()
        self.model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bf16):
            predicted = self.model(**batch.inputs).action_preds
        loss = self._loss(predicted.float()[batch.real], batch.inputs["actions"][batch.real])
        rate = learning_rate(self.config, step)
        descend(self.optimizer, loss, rate, self.model.parameters(), norm=self.config.clip)
        right = self._right(predicted.detach(), batch)
        if right is not None:
            self.curriculum.note(right, self.config.competence, len(self.config.curriculum) - 1)
        return Update(loss.item(), right)

    def due(self, step: int) -> bool:
        """Whether it is time for a snapshot."""
        return step % self.config.eval_every == 0

    def record(self, step: int, updates: Sequence[Update]) -> Record:
        """The mean loss, and how a snapshot plays, which is kept if it is the best."""
        config = self.config
        self.model.eval()
        seeds = range(SELECTION_SEED, SELECTION_SEED + config.eval_episodes)
        judge, *_ = protocols(config)
        episodes = play(config, self.control, judge, self.envs, seeds, config.asked[0])
        returns = np.array([episode.episode_return for episode in episodes])
        score = float(scores(self.env, episodes).mean())
        self.best.offer(step, score, self.model)
        return {
            "step": step,
            "loss": float(np.mean([update.loss for update in updates])),
            **self._learned(updates),
            "return_mean": float(returns.mean()),
            "return_std": float(returns.std()),
            **({"success": score} if self.env.success else {}),
        }

    def _batch(self) -> Batch:
        config, generator = self.config, self.draws.batches
        if isinstance(self.source, Windows):
            batch = self.source.sample(config.batch, generator)
        else:
            steps = config.batch * config.context
            batch = self.source.sample(steps, self.curriculum.level, generator)
        if config.time == "stretched":
            return batch.stretched(config.max_ep_len, generator)
        return batch

    def _loss(
        self, predicted: Float[Tensor, "steps action"], actions: Float[Tensor, "steps action"]
    ) -> Float[Tensor, ""]:
        if not self.control.choices:
            return mse_loss(predicted, actions)
        parts = zip(self.control.parts(predicted), self.control.parts(actions))
        losses = [cross_entropy(logits, taken.argmax(-1)) for logits, taken in parts]
        return torch.stack(losses).sum()

    def _right(self, predicted: Float[Tensor, "rows steps action"], batch: Batch) -> float | None:
        """The share of right actions that count; None where none does."""
        if not self.control.choices:
            return None
        right = (self.control.decided(predicted) == batch.inputs["actions"]).all(-1)
        return right[batch.recall].double().mean().item() if batch.recall.any() else None

    def _learned(self, updates: Sequence[Update]) -> Record:
        shares = [update.right for update in updates if update.right is not None]
        found: Record = {"accuracy": float(np.mean(shares))} if shares else {}
        if self.config.curriculum:
            found["longest"] = self.config.curriculum[self.curriculum.level]
        return found


def _digests(datasets: Sequence[Dataset]) -> dict[str, str]:
    """By name; of one name, with their numbers."""
    names = [dataset.name for dataset in datasets]
    return {
        name if names.count(name) == 1 else f"{name} ({place})": dataset.sha256
        for place, (name, dataset) in enumerate(zip(names, datasets), 1)
    }


def _new_model(config: PretrainConfig, steps: Steps, chooses: bool) -> DecisionTransformerModel:
    torch.manual_seed(config.seed)
    architecture = DecisionTransformerConfig(
        state_dim=steps.states.shape[1],
        act_dim=steps.actions.shape[1],
        hidden_size=config.hidden,
        n_layer=config.layers,
        n_head=config.heads,
        max_ep_len=config.max_ep_len,
        # the largest logit decides, which tanh would keep from being sure
        action_tanh=not chooses,
        # every position id is zero, so one row of this table is used
        n_positions=4,
        resid_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        # the defaults lie outside the vocabulary of one token
        bos_token_id=None,  # pyright: ignore[reportArgumentType]
        eos_token_id=None,  # pyright: ignore[reportArgumentType]
    )
    model = DecisionTransformerModel(architecture)
    if config.time == "none":
        nn.init.zeros_(model.embed_timestep.weight).requires_grad_(False)
    return model

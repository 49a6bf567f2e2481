"""Trains a Decision Transformer on D4RL-format files and keeps the snapshot that acts best.

The loss goes on falling while the return at high targets gets worse, so snapshots are compared by
playing episodes, on seeds that the final report does not use.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import gymnasium
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from transfer.adapters.control_model import ControlModel, load_control_model, save_control_model
from transfer.adapters.decision_transformer import WindowController
from transfer.envs.d4rl import HORIZON, Dataset, Trajectory
from transfer.envs.datasets import read_dataset
from transfer.envs.environment import env_id, env_name, environment, make_envs
from transfer.envs.rollout import refuse_failures, rollout
from transfer.errors import UserError
from transfer.files import locked
from transfer.pretrain.control_card import SELECTION_SEED, Record, write_card
from transfer.pretrain.control_state import Run
from transfer.pretrain.run_state import state_path
from transfer.pretrain.windows import Windows, make_windows

_COUNTS = (
    *("hidden", "layers", "heads", "context", "batch", "steps"),
    *("eval_every", "eval_episodes", "report_episodes"),
)


@dataclass(frozen=True)
class PretrainConfig:
    """Train a Decision Transformer on D4RL-format data and keep the snapshot that acts best.

    Attributes:
        dataset: files in D4RL's layout, D4RL's names (hopper-medium-v2) of files downloaded to
            ~/.d4rl/datasets, or Minari datasets by folder or id.
        out: folder of the finished model.
        env: hopper, halfcheetah or walker2d.
        env_version: v4 or v5, of the environment that snapshots are judged in.
        quality: what the data are called in the model's card.
        targets: returns to ask for; snapshots are compared at the first. By default those of the
            original: 3600 and 1800, for halfcheetah 12000 and 6000, for walker2d 5000 and 2500.
        scale: divisor of returns.
        delayed: all reward at the end of an episode, in training and in judging.
        hidden: width.
        layers: transformer blocks.
        heads: attention heads.
        context: K, steps per window.
        dropout: of embeddings, attention and residual branches.
        batch: windows per step.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: steps of linear warm-up, before the cosine.
        steps: optimiser steps.
        seed: of weights, windows and dropout.
        eval_every: steps between snapshots.
        eval_episodes: episodes that judge a snapshot.
        report_episodes: episodes per target in the card.
        bf16: bfloat16 autocast while training.
    """

    dataset: tuple[str, ...]
    out: Path
    env: str = "hopper"
    env_version: str = "v4"
    quality: str = "mixed"
    targets: tuple[float, ...] = ()
    scale: float = 1000.0
    delayed: bool = False
    hidden: int = 128
    layers: int = 3
    heads: int = 1
    context: int = 20
    dropout: float = 0.1
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 200
    steps: int = 3600
    seed: int = 0
    eval_every: int = 300
    eval_episodes: int = 20
    report_episodes: int = 100
    bf16: bool = True

    def __post_init__(self) -> None:
        env_id(self.env, self.env_version)
        if not self.dataset:
            raise UserError("no dataset was named; give --dataset one or more .hdf5 files")
        if not 0 < self.scale < math.inf:
            raise UserError(f"--scale is {self.scale}; use a number above 0")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise UserError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; use 1 or more"
                )
        if not 0 <= self.dropout < 1:
            raise UserError(f"--dropout is {self.dropout}; use 0 or more and less than 1")
        if self.lr <= 0:
            raise UserError(f"--lr is {self.lr}; use a number above 0")
        if self.hidden % self.heads:
            raise UserError(
                f"--hidden {self.hidden} is no multiple of --heads {self.heads}; choose a multiple"
            )

    @property
    def asked(self) -> tuple[float, ...]:
        """The target returns."""
        return self.targets or environment(self.env).targets


def pretrain(config: PretrainConfig) -> ControlModel:
    """Train, keep the best snapshot, report it over `report_episodes` episodes, and write its card.

    A run that was stopped continues from its last snapshot when started again with the same
    settings, and ends with the same weights as one that was not.

    Returns:
        The saved model, as loaded back from `config.out`.

    Raises:
        UserError: unusable data, or `out` holds a finished model or a run with other settings.
    """
    if (config.out / "CARD.md").exists():
        raise UserError(f"{config.out} holds a finished model; choose another --out or delete it")
    datasets = [read_dataset(name) for name in config.dataset]
    with locked(config.out):
        return _pretrain(config, datasets)


def _pretrain(config: PretrainConfig, datasets: Sequence[Dataset]) -> ControlModel:
    trajectories = _trajectories(config, datasets)
    windows = make_windows(trajectories, config.context, config.scale, config.delayed)
    control = ControlModel(
        model=_new_model(config, windows),
        state_mean=windows.state_mean,
        state_std=windows.state_std,
        target_returns=config.asked,
        env=env_name(config.env),
        quality=config.quality,
        context=config.context,
        scale=config.scale,
        delayed=config.delayed,
        data={dataset.name: dataset.sha256 for dataset in datasets},
    )
    run = _start(config, control)
    _train(config, control, windows, run)
    control.model.load_state_dict(run.best)
    save_control_model(control, config.out, dtype=torch.float16)
    finished = load_control_model(config.out)
    write_card(config, finished, datasets, run.log, run.best_step, run.seconds)
    state_path(config.out).unlink()
    return finished


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine from the peak to a twentieth of it at the last step."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.lr * min(1.0, (step + 1) / max(config.warmup, 1)) * (0.05 + 0.95 * cosine)


def _trajectories(config: PretrainConfig, datasets: Sequence[Dataset]) -> list[Trajectory]:
    [env] = make_envs(config.env, 1, config.env_version)
    spaces = (env.observation_space.shape, env.action_space.shape)
    env.close()
    for dataset in datasets:
        found = (dataset.observations.shape[1:], dataset.actions.shape[1:])
        if found != spaces:
            raise UserError(
                f"{dataset.name} has states and actions of sizes {found} but {config.env} has"
                f" {spaces}; name the data of this environment or another --env"
            )
        longest = max(map(len, dataset.trajectories), default=0)
        if longest > HORIZON:
            raise UserError(
                f"{dataset.name} has an episode of {longest} steps, over {HORIZON}; split it first"
            )
    return [trajectory for dataset in datasets for trajectory in dataset.trajectories]


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


def _start(config: PretrainConfig, control: ControlModel) -> Run:
    parameters = control.model.parameters()
    run = Run(
        model=control.model,
        optimizer=torch.optim.AdamW(
            parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True
        ),
        windows_rng=torch.Generator().manual_seed(config.seed),
    )
    if state_path(config.out).exists():
        run.resume(config.out, _settings(config, control))
    return run


def _settings(config: PretrainConfig, control: ControlModel) -> str:
    settings = asdict(config) | {"dataset": dict(control.data)}
    return json.dumps({key: value for key, value in settings.items() if key != "out"})


def _train(config: PretrainConfig, control: ControlModel, windows: Windows, run: Run) -> None:
    envs = make_envs(config.env, config.eval_episodes, config.env_version)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("training", total=config.steps, completed=run.step)
        while run.step < config.steps:
            began = time.perf_counter()
            losses = []
            for _ in range(min(config.eval_every, config.steps - run.step)):
                losses.append(_update(config, windows, run))
                progress.advance(bar)
            if not np.isfinite(losses).all():
                raise UserError(f"the loss is not finite by step {run.step}; use a lower --lr")
            episodes = _judge(config, control, run, envs)
            run.seconds += time.perf_counter() - began
            run.log.append({"step": run.step, "loss": float(np.mean(losses)), **episodes})
            run.log[-1]["seconds"] = round(run.seconds, 1)
            run.save(config.out, _settings(config, control))
            progress.console.print(json.dumps(run.log[-1]), soft_wrap=True)
    for env in envs:
        env.close()


def _update(config: PretrainConfig, windows: Windows, run: Run) -> float:
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(config, run.step)
    batch = windows.sample(config.batch, run.windows_rng)
    run.model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bf16):
        predicted = run.model(**batch).action_preds
    loss = torch.nn.functional.mse_loss(predicted.float(), batch["actions"])
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 0.25)
    run.optimizer.step()
    run.step += 1
    return loss.item()


def _judge(
    config: PretrainConfig, control: ControlModel, run: Run, envs: list[gymnasium.Env]
) -> Record:
    run.model.eval()
    seeds = range(SELECTION_SEED, SELECTION_SEED + config.eval_episodes)
    episodes, _ = rollout(
        WindowController(control),
        envs,
        seeds,
        config.asked[0],
        config.scale,
        delayed=config.delayed,
    )
    refuse_failures(episodes)
    returns = np.array([episode.episode_return for episode in episodes])
    if returns.mean() > run.best_return:
        run.best_return, run.best_step = float(returns.mean()), run.step
        run.best = {name: value.clone() for name, value in run.model.state_dict().items()}
    return {"return_mean": float(returns.mean()), "return_std": float(returns.std())}

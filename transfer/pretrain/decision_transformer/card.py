"""The card of a trained Decision Transformer: what it learned from, how, and what it does."""

from collections.abc import Sequence

import numpy as np
import torch

from transfer.adapters.control_model import ControlModel
from transfer.adapters.decision_transformer import WindowController
from transfer.envs.d4rl import Dataset
from transfer.envs.environment import env_id, environment, make_envs
from transfer.envs.rollout import Episode, refuse_failures, rollout
from transfer.evaluation.statistics import bootstrap
from transfer.pretrain.card import command, paragraph, table, write_sections
from transfer.pretrain.decision_transformer.config import PretrainConfig
from transfer.pretrain.trainer import Record, Trainer
from transfer.provenance import PACKAGES, command_line

#: The seeds of the episodes that compare snapshots begin here; the report's begin at 0.
SELECTION_SEED = 10_000
_PARALLEL = 50


def write_card(
    config: PretrainConfig,
    control: ControlModel,
    datasets: Sequence[Dataset],
    trainer: Trainer[float],
    best_step: int,
) -> None:
    """Play `report_episodes` episodes per target (seeds from 0) and write `CARD.md`."""
    line = command_line("pretrain decision-transformer", config, public=True)
    recorded = [dataset for dataset in datasets if dataset.origin.get("command")]
    write_sections(
        config.out,
        _introduction(config, control, bool(recorded)),
        {
            "Data": [_data_table(config, datasets), *map(_recorded, recorded)],
            "Training": [
                command(line),
                _training(config, trainer.seconds, best_step),
                _log_table(trainer.log),
            ],
            "Results": _results(config, control),
        },
        PACKAGES,
    )


def _introduction(config: PretrainConfig, control: ControlModel, recorded: bool) -> list[str]:
    ours = (
        "This data was recorded by this project in D4RL's file layout: it is not D4RL's data, and"
    )
    shape = control.model.config
    parameters = sum(parameter.numel() for parameter in control.model.parameters())
    return [
        paragraph(
            f"A Decision Transformer for {config.env}, trained on {control.quality} data: layers"
            f" {shape.n_layer}, width {shape.hidden_size}, heads {shape.n_head}, context"
            f" {config.context} steps, {parameters:,} parameters, stored as float16. It loads with"
            " `transformers.DecisionTransformerModel`; `control.json` holds the state statistics,"
            f" the scale of returns ({control.scale:g}) and the targets."
        ),
        paragraph(
            f"{ours + ' scores' if recorded else 'Scores'} are not comparable with models trained"
            " on other files of the same names. Scores are D4RL's normalisation (0 random, 100"
            " expert)."
        ),
    ]


def _data_table(config: PretrainConfig, datasets: Sequence[Dataset]) -> str:
    rows = []
    for dataset in datasets:
        returns = np.array([trajectory.episode_return for trajectory in dataset.trajectories])
        score = environment(config.env).score(returns.mean())
        spread = f"{returns.mean():.0f} ± {returns.std():.0f} ({returns.max():.0f})"
        counts = (f"{len(dataset):,}", len(returns))
        rows.append((dataset.name, *counts, spread, f"{score:.1f}", f"`{dataset.sha256}`"))
    head = ("file", "transitions", "episodes", "return mean ± std (max)", "D4RL score", "sha256")
    return table(head, rows)


def _recorded(dataset: Dataset) -> str:
    said = {"seed": "seed", "environment": "in", "iteration": "training step", "versions": "with"}
    origin = dataset.origin
    facts = [f"{said[key]} {origin[key]}" for key in said if key in origin]
    command_and_facts = ", ".join([f"`{origin['command']}`", *facts])
    return f"{dataset.name}: {command_and_facts}."


def _training(config: PretrainConfig, seconds: float, best_step: int) -> str:
    return paragraph(
        f"Seed {config.seed}; {config.steps} steps of {config.batch} windows in"
        f" {seconds / 60:.1f} minutes of {torch.get_num_threads()} thread(s), evaluations included."
        f" Snapshots were compared by {config.eval_episodes} episodes at target"
        f" {config.asked[0]:g} on seeds from {SELECTION_SEED}, which the report does not use; the"
        f" one at step {best_step} is shipped."
    )


def _log_table(log: Sequence[Record]) -> str:
    rows = [
        (
            record["step"],
            f"{record['loss']:.4f}",
            f"{record['return_mean']:.0f} ± {record['return_std']:.0f}",
        )
        for record in log
    ]
    return table(("step", "loss", "return at the first target, mean ± std"), rows)


def _results(config: PretrainConfig, control: ControlModel) -> list[str]:
    rows = []
    for target in config.asked:
        episodes = _play(config, control, target)
        returns = np.array([episode.episode_return for episode in episodes])
        length = np.mean([episode.length for episode in episodes])
        scores = np.asarray(environment(config.env).score(returns))
        interval = bootstrap(scores)
        score = f"{scores.mean():.1f}"
        # One episode says nothing of spread.
        if interval.low is not None and interval.high is not None:
            score += f" ({interval.low:.1f} to {interval.high:.1f})"
        shown = f"{returns.mean():.0f} ± {returns.std():.0f}"
        rows.append((f"{target:g}", shown, f"{length:.0f}", score))
    about = (
        f"{env_id(config.env, config.env_version)}, the stored weights, stock protocol (the last"
        f" {control.context} steps encoded anew), {config.report_episodes} episodes per target,"
        f" seeds 0 to {config.report_episodes - 1}; std is over episodes, the interval is a 95%"
        f" bootstrap over episodes."
    )
    head = ("target", "return mean ± std", "length", "D4RL score (95% interval)")
    return [paragraph(about), table(head, rows)]


def _play(config: PretrainConfig, control: ControlModel, target: float) -> list[Episode]:
    envs = make_envs(config.env, min(_PARALLEL, config.report_episodes), config.env_version)
    seeds = range(config.report_episodes)
    episodes, _ = rollout(
        WindowController(control), envs, seeds, target, control.scale, delayed=control.delayed
    )
    for env in envs:
        env.close()
    refuse_failures(episodes)
    return episodes

"""The card of a trained Decision Transformer: what it learned from, how, and what it does."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from transfer.adapters.control_model import ControlModel
from transfer.envs.d4rl import Dataset
from transfer.envs.environment import Environment, environment, make_envs
from transfer.envs.rollout import Episode
from transfer.evaluation.statistics import bootstrap
from transfer.pretrain.card import command, paragraph, table, write_sections
from transfer.pretrain.decision_transformer.config import PretrainConfig
from transfer.pretrain.decision_transformer.play import play, protocols, scores
from transfer.pretrain.trainer import Record, Trainer
from transfer.provenance import PACKAGES, command_line

#: The seeds of the episodes that compare snapshots begin here; the report's begin at 0.
SELECTION_SEED = 10_000
_PARALLEL = 50
#: What the metrics of `Environment` are called, and what they mean.
_METRICS = {
    "d4rl_score": ("D4RL score", "Scores are D4RL's normalisation (0 random, 100 expert)."),
    "success": ("success", "Success is the environment's own, from 0 to 1."),
    "return": ("return", "The environment has no reference returns, so the score is the return."),
}


def write_card(
    config: PretrainConfig,
    control: ControlModel,
    datasets: Sequence[Dataset],
    trainer: Trainer[Any],
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
                _log_table(environment(config.env), trainer.log),
            ],
            "Results": _results(config, control),
        },
        PACKAGES,
    )


def _introduction(config: PretrainConfig, control: ControlModel, recorded: bool) -> list[str]:
    shape, env = control.model.config, environment(config.env)
    loads = "`transformers.DecisionTransformerModel`"
    if config.states == "convolution":
        seen = " x ".join(map(str, env.picture))
        loads = f"this package alone, whose convolutions see its states as pictures of {seen}"
    parameters = sum(parameter.numel() for parameter in control.model.parameters())
    return [
        paragraph(
            f"A Decision Transformer for {config.env}, trained on {control.quality} data: layers"
            f" {shape.n_layer}, width {shape.hidden_size}, heads {shape.n_head}, context"
            f" {config.context} steps, {parameters:,} parameters, stored as float16. It loads with"
            f" {loads}; `control.json` holds the state statistics,"
            f" the scale of returns ({control.scale:g}) and the targets."
        ),
        paragraph((_files(recorded) if _of_d4rl(env) else "") + _METRICS[env.metric][1]),
    ]


def _files(recorded: bool) -> str:
    ours = (
        "This data was recorded by this project in D4RL's file layout: it is not D4RL's data, and"
    )
    return (
        f"{ours + ' scores' if recorded else 'Scores'} are not comparable with models trained"
        " on other files of the same names. "
    )


def _data_table(config: PretrainConfig, datasets: Sequence[Dataset]) -> str:
    env, rows = environment(config.env), []
    for dataset in datasets:
        returns = np.array([trajectory.episode_return for trajectory in dataset.trajectories])
        spread = f"{_spread(env, returns.mean(), returns.std())} ({_number(env, returns.max())})"
        score = (f"{env.score(returns.mean()):.1f}",) if _of_d4rl(env) else ()
        counts = (f"{len(dataset):,}", len(returns))
        rows.append((dataset.name, *counts, spread, *score, f"`{dataset.sha256}`"))
    score = ("D4RL score",) if _of_d4rl(env) else ()
    head = ("file", "transitions", "episodes", "return mean ± std (max)", *score, "sha256")
    return table(head, rows)


def _recorded(dataset: Dataset) -> str:
    said = {"seed": "seed", "environment": "in", "iteration": "training step", "versions": "with"}
    origin = dataset.origin
    facts = [f"{said[key]} {origin[key]}" for key in said if key in origin]
    command_and_facts = ", ".join([f"`{origin['command']}`", *facts])
    return f"{dataset.name}: {command_and_facts}."


def _training(config: PretrainConfig, seconds: float, best_step: int) -> str:
    batch = f"{config.batch} windows"
    if config.whole_episodes:
        batch = f"whole episodes of about {config.batch * config.context} steps together"
    return paragraph(
        f"Seed {config.seed}; {config.steps} steps of {batch} in"
        f" {seconds / 60:.1f} minutes of {torch.get_num_threads()} thread(s), evaluations included."
        f" Snapshots were compared by {config.eval_episodes} episodes at target"
        f" {config.asked[0]:g} on seeds from {SELECTION_SEED}, which the report does not use; the"
        f" one at step {best_step} is shipped."
    )


def _log_table(env: Environment, log: Sequence[Record]) -> str:
    more = [name for name in ("accuracy", "longest", "success") if name in log[0]]
    rows = [
        (
            record["step"],
            f"{record['loss']:.4f}",
            *(f"{record[name]:.4g}" for name in more),
            _spread(env, record["return_mean"], record["return_std"]),
        )
        for record in log
    ]
    return table(("step", "loss", *more, "return at the first target, mean ± std"), rows)


def _results(config: PretrainConfig, control: ControlModel) -> list[str]:
    env, ways = environment(config.env, config.env_version), protocols(config)
    alone = len(ways) == 1
    rows = []
    for target, way in product(config.asked, ways):
        named = () if alone else (f"`{way}`",)
        rows.append((*named, f"{target:g}", *_played(env, _report(config, control, way, target))))
    anew = f"(the last {control.context} steps encoded anew)"
    both = f"`full` (incremental, with every step since the first in the cache) and `window` {anew}"
    about = (
        f"{env.title}, the stored weights, {f'stock protocol {anew}' if alone else both},"
        f" {config.report_episodes} episodes per target,"
        f" seeds 0 to {config.report_episodes - 1}; std is over episodes, the interval is a 95%"
        f" bootstrap over episodes."
    )
    metric = _METRICS[env.metric][0]
    head = ("target", "return mean ± std", "length", f"{metric} (95% interval)")
    return [paragraph(about), table(head if alone else ("memory", *head), rows)]


def _played(env: Environment, episodes: Sequence[Episode]) -> tuple[str, str, str]:
    """Return, length and score, as a row shows them."""
    returns = np.array([episode.episode_return for episode in episodes])
    found, digits = scores(env, episodes), 1 if _of_d4rl(env) else 3
    interval = bootstrap(found)
    score = f"{found.mean():.{digits}f}"
    # One episode says nothing of spread.
    if interval.low is not None and interval.high is not None:
        score += f" ({interval.low:.{digits}f} to {interval.high:.{digits}f})"
    length = np.mean([episode.length for episode in episodes])
    return _spread(env, returns.mean(), returns.std()), f"{length:.0f}", score


def _report(
    config: PretrainConfig, control: ControlModel, protocol: str, target: float
) -> list[Episode]:
    envs = make_envs(config.env, min(_PARALLEL, config.report_episodes), config.env_version)
    episodes = play(config, control, protocol, envs, range(config.report_episodes), target)
    for env in envs:
        env.close()
    return episodes


def _of_d4rl(env: Environment) -> bool:
    return env.metric == "d4rl_score"


def _number(env: Environment, value: float) -> str:
    return f"{value:.0f}" if _of_d4rl(env) else f"{value:.2f}"


def _spread(env: Environment, mean: float, std: float) -> str:
    return f"{_number(env, mean)} ± {_number(env, std)}"

"""The card of a trained Decision Transformer: what it learned from, how, and what it does."""

import platform
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from transfer.adapters.control_model import ControlModel
from transfer.adapters.decision_transformer import WindowController
from transfer.envs.d4rl import Dataset
from transfer.envs.environment import env_id, environment, make_envs
from transfer.envs.rollout import Episode, refuse_failures, rollout
from transfer.evaluation.statistics import bootstrap
from transfer.files import replacing

if TYPE_CHECKING:
    from transfer.pretrain.decision_transformer import PretrainConfig

#: The seeds of the episodes that compare snapshots begin here; the report's begin at 0.
SELECTION_SEED = 10_000
#: What is logged of a snapshot: step, loss, return_mean, return_std, seconds.
Record = dict[str, int | float]
_PARALLEL = 50
_PACKAGES = ("torch", "transformers", "gymnasium", "mujoco", "numpy")


def write_card(
    config: "PretrainConfig",
    control: ControlModel,
    datasets: Sequence[Dataset],
    log: Sequence[Record],
    best_step: int,
    seconds: float,
) -> None:
    """Play `report_episodes` episodes per target (seeds from 0) and write `CARD.md`."""
    played = [_play(config, control, target) for target in config.asked]
    sections = [
        _introduction(config, control, datasets),
        _data_table(config, datasets),
        _training(config, log, best_step, seconds),
        _results(config, control, played),
        _versions(),
    ]
    with replacing(config.out / "CARD.md") as partial:
        partial.write_text("\n".join(sections))


def command(config: "PretrainConfig") -> str:
    """The command line of this configuration: changed settings only, files by base name."""
    words = ["transfer", "pretrain", "decision-transformer"]
    for item in fields(config):
        value: Any = getattr(config, item.name)
        if value != item.default:
            value = map(_public, value) if item.name == "dataset" else value
            words += _option(item.name.replace("_", "-"), value)
    return shlex.join(words)


def _public(name: str) -> str:
    """Of a file or folder the last part; other names stay."""
    return Path(name).name if Path(name).exists() else name


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    return [f"--{name}", *(one.name if isinstance(one, Path) else str(one) for one in values)]


def _play(config: "PretrainConfig", control: ControlModel, target: float) -> list[Episode]:
    envs = make_envs(config.env, min(_PARALLEL, config.report_episodes), config.env_version)
    seeds = range(config.report_episodes)
    episodes, _ = rollout(
        WindowController(control), envs, seeds, target, control.scale, delayed=control.delayed
    )
    for env in envs:
        env.close()
    refuse_failures(episodes)
    return episodes


def _introduction(
    config: "PretrainConfig", control: ControlModel, datasets: Sequence[Dataset]
) -> str:
    ours = (
        "This data was recorded by this project in D4RL's file layout: it is not D4RL's data, and"
    )
    source = f"{ours}\nscores" if any(one.origin.get("command") for one in datasets) else "Scores"
    shape = control.model.config
    parameters = sum(parameter.numel() for parameter in control.model.parameters())
    return f"""# {config.out.name}

A Decision Transformer for {config.env}, trained on {control.quality} data: layers {shape.n_layer},
width {shape.hidden_size}, heads {shape.n_head}, context {config.context} steps, {parameters:,}
parameters, stored as float16. It loads with `transformers.DecisionTransformerModel`; `control.json`
holds the state statistics, the scale of returns ({control.scale:g}) and the targets.

{source} are not comparable with models trained on other files of the same names. Scores are D4RL's
normalisation (0 random, 100 expert).
"""


def _data_table(config: "PretrainConfig", datasets: Sequence[Dataset]) -> str:
    rows = [
        "## Data",
        "",
        "| file | transitions | episodes | return mean ± std (max) | D4RL score | sha256 |",
        "|---|---|---|---|---|---|",
    ]
    for dataset in datasets:
        returns = np.array([trajectory.episode_return for trajectory in dataset.trajectories])
        score = environment(config.env).score(returns.mean())
        rows.append(
            f"| {dataset.name} | {len(dataset):,} | {len(returns)} | {returns.mean():.0f} ±"
            f" {returns.std():.0f} ({returns.max():.0f}) | {score:.1f} | `{dataset.sha256}` |"
        )
    recorded = [_recorded(dataset) for dataset in datasets if dataset.origin.get("command")]
    return "\n".join([*rows, "", *recorded]).rstrip() + "\n"


def _recorded(dataset: Dataset) -> str:
    said = {"seed": "seed", "environment": "in", "iteration": "training step", "versions": "with"}
    origin = dataset.origin
    facts = [
        f"`{origin['command']}`",
        *(f"{said[key]} {origin[key]}" for key in said if key in origin),
    ]
    return f"{dataset.name}: {', '.join(facts)}."


def _training(
    config: "PretrainConfig", log: Sequence[Record], best_step: int, seconds: float
) -> str:
    rows = [
        "## Training",
        "",
        "```",
        command(config),
        "```",
        "",
        f"Seed {config.seed}; {config.steps} steps of {config.batch} windows in"
        f" {seconds / 60:.1f} minutes of {torch.get_num_threads()} thread(s), evaluations included."
        f" Snapshots were compared by {config.eval_episodes} episodes at target"
        f" {config.asked[0]:g} on seeds from {SELECTION_SEED}, which the report does not use; the"
        f" one at step {best_step} is shipped.",
        "",
        "| step | loss | return at the first target, mean ± std |",
        "|---|---|---|",
    ]
    for record in log:
        mean, std = record["return_mean"], record["return_std"]
        rows.append(f"| {record['step']} | {record['loss']:.4f} | {mean:.0f} ± {std:.0f} |")
    return "\n".join(rows) + "\n"


def _results(
    config: "PretrainConfig", control: ControlModel, played: Sequence[Sequence[Episode]]
) -> str:
    rows = [
        "## Results",
        "",
        f"{env_id(config.env, config.env_version)}, the stored weights, stock protocol (the last"
        f" {control.context} steps encoded anew), {config.report_episodes} episodes per target,"
        f" seeds 0 to {config.report_episodes - 1}; std is over episodes, the interval is a 95%"
        f" bootstrap over episodes.",
        "",
        "| target | return mean ± std | length | D4RL score (95% interval) |",
        "|---|---|---|---|",
    ]
    for target, episodes in zip(control.target_returns, played):
        returns = np.array([episode.episode_return for episode in episodes])
        length = np.mean([episode.length for episode in episodes])
        scores = np.asarray(environment(config.env).score(returns))
        interval = bootstrap(scores)
        rows.append(
            f"| {target:g} | {returns.mean():.0f} ± {returns.std():.0f} | {length:.0f} |"
            f" {scores.mean():.1f} ({interval.low:.1f} to {interval.high:.1f}) |"
        )
    return "\n".join(rows) + "\n"


def _versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"## Versions\n\nPython {platform.python_version()}, {packages}.\n"

"""Trains a small language model that really retrieves, to ship with the package.

Every draw is a function of the seed and the step, so that the weights depend on the settings
alone, and a run that was stopped continues to the same bits.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn
from transformers import PreTrainedModel

from transfer.errors import UserError, unknown_name
from transfer.evaluation.threads import torch_threads
from transfer.pretrain.curriculum import STAGES, Stage, training_batch
from transfer.pretrain.guidance import guidance_loss, previous_token_head, recall_loss
from transfer.pretrain.recall_card import accuracy, write_card
from transfer.pretrain.recall_models import ARCHITECTURES, Architecture
from transfer.pretrain.run_state import load_state, save_state, state_path, store_half
from transfer.tasks.base import TokenBatch
from transfer.tasks.recall import TASKS

_WARMUP, _FINAL_RATE = 30, 0.02
_PROBE_DOCUMENTS = 64


@dataclass(frozen=True)
class RecallPretrainConfig:
    """Which model to train, how, and where to put it.

    Attributes:
        out: folder of the finished model.
        arch: llama (GQA), llama-wide (wider, deeper, no GQA) or gpt2.
        seed: of weights and documents.
        scale: multiplies the steps of every stage.
        longest: stages of longer documents are left out.
        tokens: in all documents of a step together.
        lr: peak learning rate of AdamW.
        plain: weight of the likelihood of all tokens beside that of the answers.
        plain_longest: documents longer than this are trained on for their answers alone, like a
            model that learned its language on short texts and was then taught to retrieve from
            long ones.
        save_every: steps between two saved states.
        report_documents: documents for each cell of the card's table.
    """

    out: Path
    arch: str = "llama"
    seed: int = 0
    scale: float = 1.0
    longest: int = 1024
    tokens: int = 2048
    lr: float = 3e-3
    plain: float = 0.2
    plain_longest: int = 1024
    save_every: int = 100
    report_documents: int = 512

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise unknown_name("architecture", self.arch, ARCHITECTURES)
        for name in ("scale", "lr"):
            if not getattr(self, name) > 0:
                raise UserError(f"--{name} is {getattr(self, name)}; use a number above 0")
        for name in ("tokens", "save_every", "report_documents"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; use 1 or more"
                )
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; use 0 or more")
        if not self.stages:
            raise UserError(
                f"--longest is {self.longest}, below the documents of the first stage;"
                f" use at least {STAGES[0].lengths[0]}"
            )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of this run."""
        return tuple(
            replace(stage, steps=max(1, round(stage.steps * self.scale)))
            for stage in STAGES
            if max(stage.lengths) <= self.longest
        )

    @property
    def architecture(self) -> Architecture:
        """The model to train."""
        return ARCHITECTURES[self.arch]


@dataclass
class _Run:
    """Everything that changes while training; what `_save` writes is what `_resume` needs."""

    model: PreTrainedModel
    previous: nn.Linear
    optimizer: torch.optim.Optimizer
    step: int = 0
    right: list[float] = field(default_factory=list)
    log: list[dict[str, float | int]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class _Step:
    stage: Stage
    length: int
    rate: float


def pretrain_recall(config: RecallPretrainConfig) -> PreTrainedModel:
    """Train, store as float16, score the stored weights on held-out documents, write the card.

    A run that was stopped continues from its last saved state when started again with the same
    settings, and ends with the same weights as one that was not.

    Returns:
        The model in evaluation mode, with the weights as stored.

    Raises:
        UserError: `out` holds a finished model, or a run with other settings.
    """
    if (config.out / "CARD.md").exists():
        raise UserError(f"{config.out} holds a finished model; choose another --out or delete it")
    run = _start(config)
    # more threads would add up in another order, and are no faster on models this small
    with torch_threads(1), Progress(console=Console(stderr=True)) as progress:
        _train(config, run, progress)
        run.model.set_attn_implementation("sdpa")
        store_half(run.model, config.out)
        write_card(config, run.model, run.seconds, progress)
    state_path(config.out).unlink()
    return run.model


def _start(config: RecallPretrainConfig) -> _Run:
    model = config.architecture.new_model(config.seed)
    previous = previous_token_head(model)
    parameters = [*model.parameters(), *previous.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    run = _Run(model, previous, optimizer)
    if state_path(config.out).exists():
        _resume(config, run)
    return run


def _schedule(config: RecallPretrainConfig) -> Iterator[_Step]:
    """Every step: learning rate with warm-up, constant, linear decay in the last stage."""
    step = 0
    for stage in config.stages:
        for index in range(stage.steps):
            decay = 1 - index / stage.steps if stage == config.stages[-1] else 1.0
            warm = min(1.0, (step + 1) / _WARMUP)
            rate = config.lr * warm * max(_FINAL_RATE, decay)
            yield _Step(stage, stage.lengths[index % len(stage.lengths)], rate)
            step += 1


def _train(config: RecallPretrainConfig, run: _Run, progress: Progress) -> None:
    schedule = list(_schedule(config))
    bar = progress.add_task("training", total=len(schedule), completed=run.step)
    began = time.perf_counter()
    while run.step < len(schedule):
        step = schedule[run.step]
        run.right.append(_update(config, run, step))
        run.step += 1
        progress.advance(bar)
        ended = run.step == len(schedule) or schedule[run.step].stage != step.stage
        if ended or run.step % config.save_every == 0:
            run.log.append(_record(run, step.stage, ended))
            run.seconds += time.perf_counter() - began
            began = time.perf_counter()
            run.log[-1]["seconds"] = round(run.seconds, 1)
            run.right.clear()
            _save(config, run)
            progress.console.print(json.dumps(run.log[-1]), soft_wrap=True)


def _record(run: _Run, stage: Stage, ended: bool) -> dict[str, float | int]:
    record: dict[str, float | int] = {
        "step": run.step,
        "length": max(stage.lengths),
        "right": round(float(np.mean(run.right)), 4),
    }
    if ended:
        for name in ("recall", "overwritten"):
            for length in stage.lengths:
                if length >= 128:
                    right = accuracy(run.model, TASKS[name], length, _PROBE_DOCUMENTS)
                    record[f"{name}_{length}"] = round(right, 4)
    return record


def _update(config: RecallPretrainConfig, run: _Run, step: _Step) -> float:
    for group in run.optimizer.param_groups:
        group["lr"] = step.rate
    batch = training_batch(step.length, config.tokens, config.seed, run.step)
    run.model.train()
    loss, right = _loss(config, run, batch, step.stage.guided)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    return right.item()


def _loss(
    config: RecallPretrainConfig, run: _Run, batch: TokenBatch, guided: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    architecture, model = config.architecture, run.model
    model.set_attn_implementation("eager" if guided else "sdpa")
    inputs = {}
    if architecture.learned_positions:
        inputs["position_ids"] = _positions(config, model, batch.ids.shape[1], run.step)
    output = model(
        batch.ids,
        output_hidden_states=guided,
        output_attentions=guided,
        use_cache=False,
        **inputs,
    )
    plain = config.plain if batch.ids.shape[1] <= config.plain_longest else 0.0
    loss, right = recall_loss(output.logits, batch, plain)
    if guided:
        attention = output.attentions[architecture.guided_layer][:, architecture.guided_heads]
        loss = loss + guidance_loss(run.previous, output.hidden_states[1], attention, batch)
    return loss, right


def _positions(
    config: RecallPretrainConfig, model: PreTrainedModel, length: int, step: int
) -> torch.Tensor:
    """Positions from a random first one on, all about equally often, the two ends included."""
    rng = np.random.default_rng((config.seed, step))
    last = model.config.max_position_embeddings - length
    first = min(max(int(rng.integers(1 - length, last + length)), 0), last)
    return torch.arange(first, first + length)[None]


def _settings(config: RecallPretrainConfig) -> str:
    ignored = ("out", "save_every", "report_documents")
    settings = {key: value for key, value in asdict(config).items() if key not in ignored}
    return json.dumps(settings | {"stages": [asdict(stage) for stage in config.stages]})


def _save(config: RecallPretrainConfig, run: _Run) -> None:
    state = {
        "model": run.model.state_dict(),
        "previous": run.previous.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "progress": json.dumps([run.step, run.log, run.seconds]),
    }
    save_state(config.out, _settings(config), state, run.log)


def _resume(config: RecallPretrainConfig, run: _Run) -> None:
    state = load_state(config.out, _settings(config))
    run.model.load_state_dict(state["model"])
    run.previous.load_state_dict(state["previous"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.log, run.seconds = json.loads(state["progress"])

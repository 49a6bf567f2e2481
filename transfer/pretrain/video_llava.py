"""Trains a small LLaVA-NeXT-Video that really answers questions about videos, to ship.

First the vision tower learns to see (`video_llava_vision`), and is left as it is from then on. Then
the text model learns to answer, about short videos first. Every draw is a function of the seed and
the step, so that the weights depend on the settings alone, and a run that was stopped continues to
the same bits.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from transformers import LlavaNextVideoForConditionalGeneration, PreTrainedTokenizerFast

from transfer.errors import UserError
from transfer.evaluation.threads import torch_threads
from transfer.pretrain.run_state import load_state, save_state, state_path, store_half
from transfer.pretrain.video_llava_batch import Packer, QuestionBatch
from transfer.pretrain.video_llava_card import write_card
from transfer.pretrain.video_llava_guidance import OrderReader
from transfer.pretrain.video_llava_model import new_model, new_tokenizer, save_processor
from transfer.pretrain.video_llava_pool import STAGES, Pool, Stage, make_pool
from transfer.pretrain.video_llava_vision import train_vision

_WARMUP, _FINAL_RATE = 100, 0.02
_GUIDANCE = 0.3


_VISION_STEPS, _VISION_VIDEOS = 500, 500


@dataclass(frozen=True)
class VideoPretrainConfig:
    """How to train the video model, and where to put it.

    Attributes:
        out: folder of the finished model.
        seed: of weights and videos.
        scale: multiplies the steps of every stage and its videos.
        lr: peak learning rate of AdamW.
        before_weight: of the question asked before a video, beside one asked after it.
        save_every: steps between two saved states.
        report_videos: held-out videos for the card, a question of every kind to each.
    """

    out: Path
    seed: int = 0
    scale: float = 1.0
    lr: float = 1.5e-3
    before_weight: float = 10.0
    save_every: int = 200
    report_videos: int = 160

    def __post_init__(self) -> None:
        for name in ("scale", "lr", "before_weight"):
            if not getattr(self, name) > 0:
                shown = name.replace("_", "-")
                raise UserError(f"--{shown} is {getattr(self, name)}; use a number above 0")
        for name in ("save_every", "report_videos"):
            if getattr(self, name) < 1:
                shown = name.replace("_", "-")
                raise UserError(f"--{shown} is {getattr(self, name)}; use 1 or more")
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; use 0 or more")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of this run."""
        return tuple(
            replace(stage, steps=self.scaled(stage.steps), videos=self.scaled(stage.videos))
            for stage in STAGES
        )

    def scaled(self, number: int) -> int:
        """So many steps or videos in this run."""
        return max(1, round(number * self.scale))


@dataclass
class _Run:
    """Everything that changes while training; what `_save` writes is what `_resume` needs."""

    tokenizer: PreTrainedTokenizerFast
    model: LlavaNextVideoForConditionalGeneration
    reader: OrderReader
    optimizer: torch.optim.Optimizer
    #: -1: the vision tower is yet to be trained
    step: int = -1
    counts: list[tuple[int, ...]] = field(default_factory=list)
    log: list[dict[str, float | int]] = field(default_factory=list)
    seconds: float = 0.0


def pretrain_video(config: VideoPretrainConfig) -> LlavaNextVideoForConditionalGeneration:
    """Train, store as float16, ask the stored model about held-out video files, write the card.

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
        _see(config, run, progress)
        _train(config, run, progress)
        store_half(run.model, config.out)
        save_processor(config.out, run.tokenizer)
        write_card(config, run.seconds, progress)
    state_path(config.out).unlink()
    return run.model


def _start(config: VideoPretrainConfig) -> _Run:
    tokenizer = new_tokenizer()
    model = new_model(tokenizer, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        reader = OrderReader(model.lm_head.in_features)
    parts = (model.model.language_model, model.lm_head, reader)
    parameters = [weight for part in parts for weight in part.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    run = _Run(tokenizer, model, reader, optimizer)
    if state_path(config.out).exists():
        _resume(config, run)
    return run


def _see(config: VideoPretrainConfig, run: _Run, progress: Progress) -> None:
    if run.step >= 0:
        return
    began = time.perf_counter()
    steps, videos = config.scaled(_VISION_STEPS), config.scaled(_VISION_VIDEOS)
    bar = progress.add_task("vision", total=steps)
    right = train_vision(run.model, config.seed, steps, videos, lambda: progress.advance(bar))
    run.step, run.seconds = 0, time.perf_counter() - began
    seen = {name: round(share, 4) for name, share in zip(("color", "shape"), right)}
    run.log.append({"step": 0, **seen, "seconds": round(run.seconds, 1)})
    _save(config, run)


def _schedule(config: VideoPretrainConfig) -> Iterator[tuple[int, float]]:
    """Stage and learning rate of every step: warm-up, constant, linear decay in the last stage."""
    step, last = 0, len(config.stages) - 1
    for index, stage in enumerate(config.stages):
        for done in range(stage.steps):
            decay = 1 - done / stage.steps if index == last else 1.0
            yield index, config.lr * min(1.0, (step + 1) / _WARMUP) * max(_FINAL_RATE, decay)
            step += 1


def _train(config: VideoPretrainConfig, run: _Run, progress: Progress) -> None:
    schedule = list(_schedule(config))
    bar = progress.add_task("training", total=len(schedule), completed=run.step)
    pool: Pool | None = None
    began = time.perf_counter()
    while run.step < len(schedule):
        index, rate = schedule[run.step]
        if pool is None or pool.stage != config.stages[index]:
            pool = _pool(config, run, index, progress)
        run.counts.append(_update(config, run, pool, rate))
        run.step += 1
        progress.advance(bar)
        ended = run.step == len(schedule) or schedule[run.step][0] != index
        if ended or run.step % config.save_every == 0:
            run.seconds += time.perf_counter() - began
            began = time.perf_counter()
            run.log.append(_record(run, config.stages[index]))
            run.counts.clear()
            _save(config, run)
            progress.console.print(json.dumps(run.log[-1]), soft_wrap=True)


def _pool(config: VideoPretrainConfig, run: _Run, index: int, progress: Progress) -> Pool:
    stage = config.stages[index]
    bar = progress.add_task(f"videos of {stage.frames} frames", total=stage.videos)
    return make_pool(run.model, config.stages, index, config.seed, lambda: progress.advance(bar))


def _record(run: _Run, stage: Stage) -> dict[str, float | int]:
    right_after, after, right_before, before, *order = np.sum(run.counts, axis=0).tolist()
    record = {
        "step": run.step,
        "frames": stage.frames,
        "right_after": round(right_after / after, 4),
        # a step may have no question that is asked before its video
        "right_before": round(right_before / max(1, before), 4),
        "seconds": round(run.seconds, 1),
    }
    if stage.guided:
        record |= {
            "previous": round(order[0] / order[2], 4),
            "number": round(order[1] / order[2], 4),
        }
    return record


def _update(config: VideoPretrainConfig, run: _Run, pool: Pool, rate: float) -> tuple[int, ...]:
    """One step; how many right answers, of how many, asked after and before; right orders."""
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    packer = Packer(run.tokenizer, pool.stage.questions, config.before_weight)
    batch, features = pool.batch(packer, np.random.default_rng((config.seed, 3, run.step)))
    run.model.train()
    logits, hidden = read_videos(run.model, batch, features)
    targets, weights = batch.targets[batch.answered], batch.weights[batch.answered]
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    loss = (losses * weights).sum() / weights.sum()
    guidance, order = run.reader(hidden, batch)
    if pool.stage.guided:
        loss = loss + _GUIDANCE * guidance
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(run.optimizer.param_groups[0]["params"], 1.0)
    run.optimizer.step()
    right, ahead = logits.argmax(-1) == targets, batch.ahead[batch.answered]
    said = targets != run.tokenizer.eos_token_id
    kinds = (said & ~ahead, said & ahead)
    return (*(int(some.sum()) for kind in kinds for some in (right & kind, kind)), *order)


def read_videos(
    model: LlavaNextVideoForConditionalGeneration,
    batch: QuestionBatch,
    features: Float[Tensor, "videos tokens width"],
) -> tuple[Float[Tensor, "answers vocabulary"], tuple[Tensor, ...]]:
    """What is expected wherever an answer, or its end, comes next; and all hidden states."""
    inputs = model.get_input_embeddings()(batch.ids)
    video = (batch.ids == model.config.video_token_index)[..., None]
    outputs = model.model.language_model(
        inputs_embeds=inputs.masked_scatter(video, features),
        position_ids=batch.positions,
        attention_mask=batch.visible[:, None],
        use_cache=False,
        output_hidden_states=True,
    )
    return model.lm_head(outputs.last_hidden_state[batch.answered]), outputs.hidden_states


def _settings(config: VideoPretrainConfig) -> str:
    ignored = ("out", "save_every", "report_videos")
    settings = {key: value for key, value in asdict(config).items() if key not in ignored}
    return json.dumps(settings | {"stages": [asdict(stage) for stage in config.stages]})


def _save(config: VideoPretrainConfig, run: _Run) -> None:
    state = {
        "model": run.model.state_dict(),
        "reader": run.reader.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "progress": json.dumps([run.step, run.log, run.seconds]),
    }
    save_state(config.out, _settings(config), state, run.log)


def _resume(config: VideoPretrainConfig, run: _Run) -> None:
    state = load_state(config.out, _settings(config))
    run.model.load_state_dict(state["model"])
    run.reader.load_state_dict(state["reader"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.log, run.seconds = json.loads(state["progress"])

"""Trains a small LLaVA-NeXT-Video that really answers questions about videos, to ship.

First the vision tower learns to see (`vision`), and is left as it is from then on. Then the text
model learns to answer, about short videos first. Every draw is a function of the seed and the step,
so that the weights depend on the settings alone.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor, nn
from transformers import LlavaNextVideoForConditionalGeneration

from transfer.arguments import typed
from transfer.pretrain.trainer import (
    Lesson,
    Record,
    Trainer,
    adamw,
    descend,
    schedule,
    settings,
    store_half,
    training,
)
from transfer.pretrain.video_llava.card import write_card
from transfer.pretrain.video_llava.config import VideoPretrainConfig
from transfer.pretrain.video_llava.data import Packer, QuestionBatch
from transfer.pretrain.video_llava.guidance import OrderReader
from transfer.pretrain.video_llava.model import new_model, new_tokenizer, save_processor
from transfer.pretrain.video_llava.pool import Pool, make_pool
from transfer.pretrain.video_llava.vision import train_vision

_WARMUP = 100
_GUIDANCE = 0.3
_VISION_STEPS, _VISION_VIDEOS = 500, 500


@typed
def pretrain_video(config: VideoPretrainConfig) -> LlavaNextVideoForConditionalGeneration:
    """Train, store as float16, ask the stored model about held-out video files, write the card.

    Returns:
        The model in evaluation mode, with the weights as stored.

    Raises:
        UserError: `out` holds a finished model, or a run with other settings.
    """
    # more threads would add up in another order, and are no faster on models this small
    with training(config.out, threads=1) as progress:
        lesson = VideoLesson(config, progress)
        stages = [asdict(stage) for stage in config.stages]
        told = settings(config, ("out", "save_every", "report_videos"), stages=stages)
        trainer = Trainer(lesson, config.out, told, progress)
        if not trainer.log:
            began = time.perf_counter()
            trainer.note(lesson.see(), began)
        trainer.train()
        store_half(lesson.model, config.out)
        save_processor(config.out, lesson.tokenizer)
        write_card(config, trainer.seconds, progress)
    return lesson.model


class VideoLesson(Lesson[tuple[int, ...]]):
    """To see, and then to answer questions about short videos, and longer ones with guidance."""

    def __init__(self, config: VideoPretrainConfig, progress: Progress) -> None:
        self.config, self.progress = config, progress
        self.tokenizer = new_tokenizer()
        self.model = new_model(self.tokenizer, config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.reader = OrderReader(self.model.lm_head.in_features)
        taught = (self.model.model.language_model, self.model.lm_head, self.reader)
        self.weights = [weight for part in taught for weight in part.parameters()]
        self.optimizer = adamw(self.weights)
        self.parts = {"model": self.model, "reader": self.reader, "optimizer": self.optimizer}
        self.schedule = schedule([stage.steps for stage in config.stages], config.lr, _WARMUP)
        self.steps = len(self.schedule)
        self._pool: Pool | None = None

    def see(self) -> Record:
        """Train the vision tower; what it then sees right."""
        config = self.config
        steps, videos = config.scaled(_VISION_STEPS), config.scaled(_VISION_VIDEOS)
        color, shape, _ = train_vision(self.model, config.seed, steps, videos, self.progress)
        return {"step": 0, "color": round(color, 4), "shape": round(shape, 4)}

    def update(self, step: int) -> tuple[int, ...]:
        """Do a step; right answers, of how many, asked after and before; right orders."""
        pool = self._videos(self.schedule[step].stage)
        packer = Packer(self.tokenizer, pool.stage.questions, self.config.before_weight)
        batch, features = pool.batch(packer, np.random.default_rng((self.config.seed, 3, step)))
        self.model.train()
        logits, hidden = read_videos(self.model, batch, features)
        targets, weights = batch.targets[batch.answered], batch.weights[batch.answered]
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        guidance, order = self.reader(hidden, batch)
        if pool.stage.guided:
            loss = loss + _GUIDANCE * guidance
        descend(self.optimizer, loss, self.schedule[step].rate, self.weights)
        right, ahead = logits.argmax(-1) == targets, batch.ahead[batch.answered]
        said = targets != self.tokenizer.eos_token_id
        kinds = (said & ~ahead, said & ahead)
        return (*(int(some.sum()) for kind in kinds for some in (right & kind, kind)), *order)

    def due(self, step: int) -> bool:
        """Whether a stage has ended, or so many steps have passed."""
        return self.schedule[step - 1].last or step % self.config.save_every == 0

    def record(self, step: int, updates: Sequence[tuple[int, ...]]) -> Record:
        """What was right."""
        stage = self.config.stages[self.schedule[step - 1].stage]
        right_after, after, right_before, before, *order = np.sum(updates, axis=0).tolist()
        record: Record = {
            "step": step,
            "frames": stage.frames,
            "right_after": round(right_after / after, 4),
            # a step may have no question that is asked before its video
            "right_before": round(right_before / max(1, before), 4),
        }
        if stage.guided:
            record["previous"] = round(order[0] / order[2], 4)
            record["number"] = round(order[1] / order[2], 4)
        return record

    def _videos(self, index: int) -> Pool:
        """Those of a stage."""
        stages, seed = self.config.stages, self.config.seed
        if self._pool is None or self._pool.stage != stages[index]:
            self._pool = make_pool(self.model, stages, index, seed, self.progress)
        return self._pool


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

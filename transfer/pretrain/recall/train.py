"""Trains a small language model that really retrieves, to ship with the package.

Every draw is a function of the seed and the step, so that the weights depend on the settings alone.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfer.arguments import typed
from transfer.pretrain.recall.card import accuracy, write_card
from transfer.pretrain.recall.config import RecallPretrainConfig
from transfer.pretrain.recall.data import training_batch
from transfer.pretrain.recall.guidance import guidance_loss, previous_token_head, recall_loss
from transfer.pretrain.recall.model import new_model
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
from transfer.tasks.base import TokenBatch
from transfer.tasks.recall import TASKS

_WARMUP = 30
_PROBE_DOCUMENTS = 64


@typed
def pretrain_recall(config: RecallPretrainConfig) -> PreTrainedModel:
    """Train, store as float16, score the stored weights on held-out documents, write the card.

    Returns:
        The model in evaluation mode, with the weights as stored.

    Raises:
        UserError: `out` holds a finished model, or a run with other settings.
    """
    # more threads would add up in another order, and are no faster on models this small
    with training(config.out, threads=1) as progress:
        lesson = RecallLesson(config)
        stages = [asdict(stage) for stage in config.stages]
        told = settings(config, ("out", "save_every", "report_documents"), stages=stages)
        trainer = Trainer(lesson, config.out, told, progress)
        trainer.train()
        lesson.model.set_attn_implementation("sdpa")
        store_half(lesson.model, config.out)
        write_card(config, lesson.model, trainer.seconds, progress)
    return lesson.model


class RecallLesson(Lesson[float]):
    """To retrieve: short documents first, and with guidance."""

    def __init__(self, config: RecallPretrainConfig) -> None:
        self.config = config
        self.model = new_model(config.architecture, config.seed)
        self.previous = previous_token_head(self.model)
        self.optimizer = adamw([*self.model.parameters(), *self.previous.parameters()])
        self.parts = {"model": self.model, "previous": self.previous, "optimizer": self.optimizer}
        self.schedule = schedule([stage.steps for stage in config.stages], config.lr, _WARMUP)
        self.steps = len(self.schedule)

    def update(self, step: int) -> float:
        """Do a step; the share of answer tokens that were right."""
        now, config = self.schedule[step], self.config
        stage = config.stages[now.stage]
        length = stage.lengths[now.index % len(stage.lengths)]
        batch = training_batch(length, config.tokens, config.seed, step)
        self.model.train()
        loss, right = self._loss(batch, stage.guided, step)
        descend(self.optimizer, loss, now.rate, self.model.parameters())
        return right.item()

    def due(self, step: int) -> bool:
        """Whether a stage has ended, or so many steps have passed."""
        return self.schedule[step - 1].last or step % self.config.save_every == 0

    def record(self, step: int, updates: Sequence[float]) -> Record:
        """What is right in training and, after a stage, on held-out documents."""
        done = self.schedule[step - 1]
        lengths = self.config.stages[done.stage].lengths
        right = round(float(np.mean(updates)), 4)
        record: Record = {"step": step, "length": max(lengths), "right": right}
        probed = [length for length in lengths if length >= 128] if done.last else []
        for name in ("recall", "overwritten"):
            for length in probed:
                right = accuracy(self.model, TASKS[name], length, _PROBE_DOCUMENTS)
                record[f"{name}_{length}"] = round(right, 4)
        return record

    def _loss(self, batch: TokenBatch, guided: bool, step: int) -> tuple[Tensor, Tensor]:
        config, shape, length = self.config, self.config.architecture, batch.ids.shape[1]
        self.model.set_attn_implementation("eager" if guided else "sdpa")
        inputs = {}
        if shape.kv_heads is None:
            last = self.model.config.max_position_embeddings - length
            inputs["position_ids"] = positions(config.seed, step, length, last)
        output = self.model(
            batch.ids,
            output_hidden_states=guided,
            output_attentions=guided,
            use_cache=False,
            **inputs,
        )
        plain = config.plain if length <= config.plain_longest else 0.0
        loss, right = recall_loss(output.logits, batch, plain)
        if guided:
            attention = output.attentions[shape.guided_layer][:, shape.guided_heads]
            loss = loss + guidance_loss(self.previous, output.hidden_states[1], attention, batch)
        return loss, right


def positions(seed: int, step: int, length: int, last: int) -> Tensor:
    """`[1, length]` positions from a random first one on, 0 to `last`.

    All positions are about equally often among them, the two ends included.
    """
    rng = np.random.default_rng((seed, step))
    first = min(max(int(rng.integers(1 - length, last + length)), 0), last)
    return torch.arange(first, first + length)[None]

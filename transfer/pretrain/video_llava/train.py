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
from transfer.pretrain.video_llava.guidance import HalfwayReader, look
from transfer.pretrain.video_llava.model import (
    TOKENS_PER_FRAME,
    new_model,
    new_tokenizer,
    save_processor,
)
from transfer.pretrain.video_llava.pool import Pool, make_pool
from transfer.pretrain.video_llava.vision import train_vision
from transfer.tasks.video_recall import FRAMES
from transfer.tasks.video_records import LETTERS

_WARMUP = 100
_GUIDANCE = 0.3
_VISION_STEPS, _VISION_VIDEOS = 900, 900
#: Another number would add up in another order; two are 1.7 times as fast as one.
_THREADS = 2


@typed
def pretrain_video(config: VideoPretrainConfig) -> LlavaNextVideoForConditionalGeneration:
    """Train, store as float16, ask the stored model about held-out video files, write the card.

    Returns:
        The model in evaluation mode, with the weights as stored.

    Raises:
        UserError: `out` holds a finished model, or a run with other settings.
    """
    with training(config.out, threads=_THREADS) as progress:
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
    """To see, and then to answer questions about short videos, and later about longer ones."""

    def __init__(self, config: VideoPretrainConfig, progress: Progress) -> None:
        self.config, self.progress = config, progress
        self.tokenizer = new_tokenizer()
        self.model = new_model(self.tokenizer, config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.reader = HalfwayReader(self.model.lm_head.in_features)
        taught = (self.model.model.language_model, self.model.lm_head, self.reader)
        self.weights = [weight for part in taught for weight in part.parameters()]
        self.optimizer = adamw(self.weights)
        self.parts = {"model": self.model, "reader": self.reader, "optimizer": self.optimizer}
        self.schedule = schedule([stage.steps for stage in config.stages], config.lr, _WARMUP)
        self.steps = len(self.schedule)
        self.letters = torch.tensor(self.tokenizer.convert_tokens_to_ids(list(LETTERS)))
        self._pools: dict[int, Pool] = {}

    def see(self) -> Record:
        """Train the vision tower; what it then sees right."""
        config = self.config
        steps, videos = config.scaled(_VISION_STEPS), config.scaled(_VISION_VIDEOS)
        color, shape, _ = train_vision(self.model, config.seed, steps, videos, self.progress)
        return {"step": 0, "color": round(color, 4), "shape": round(shape, 4)}

    def update(self, step: int) -> tuple[int, ...]:
        """Do a step; right answers, of how many, in words, letters and ahead; then halfway."""
        stage = self.config.stages[self.schedule[step].stage]
        rng = np.random.default_rng((self.config.seed, 3, step))
        frames = stage.frames[rng.integers(len(stage.frames))]
        weight = self.config.before_weight
        packer = Packer(self.tokenizer, stage.questions, stage.letters, weight, stage.hard)
        videos = max(1, stage.tokens // (frames * TOKENS_PER_FRAME))
        pool = self._videos(FRAMES if stage.mixes else frames, stage.videos)
        batch, features = (
            pool.mixed(packer, frames, videos, stage.ahead, rng)
            if stage.mixes
            else pool.batch(packer, videos, stage.ahead, rng)
        )
        self.model.train()
        logits, hidden = read_videos(self.model, batch, features)
        targets, weights = batch.targets[batch.answered], batch.weights[batch.answered]
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        guidance, halfway = self.reader(hidden, batch)
        guidance = guidance + look(self.model, hidden, batch, self.letters, stage.looks_ahead)
        loss = (losses * weights).sum() / weights.sum() + _GUIDANCE * guidance
        descend(self.optimizer, loss, self.schedule[step].rate, self.weights)
        right, ahead = logits.argmax(-1) == targets, batch.ahead[batch.answered]
        letters = torch.isin(targets, self.letters)
        said = targets != self.tokenizer.eos_token_id
        kinds = (said & ~ahead & ~letters, said & ~ahead & letters, said & ahead)
        return (*(int(some.sum()) for kind in kinds for some in (right & kind, kind)), *halfway)

    def due(self, step: int) -> bool:
        """Whether a stage has ended, or so many steps have passed."""
        return self.schedule[step - 1].last or step % self.config.save_every == 0

    def record(self, step: int, updates: Sequence[tuple[int, ...]]) -> Record:
        """What was right."""
        counts = np.sum(updates, axis=0).tolist()
        kinds = ("words", "letters", "ahead", "previous", "number", "halfway", "options")
        shares = zip(kinds, counts[::2], counts[1::2])
        # a few steps may have none of a kind
        told = {kind: round(right / max(1, every), 4) for kind, right, every in shares}
        return {"step": step, "stage": self.schedule[step - 1].stage, **told}

    def _videos(self, frames: int, videos: int) -> Pool:
        """Those of a length, so many."""
        if frames not in self._pools or len(self._pools[frames].stories) != videos:
            seed = self.config.seed
            self._pools[frames] = make_pool(self.model, frames, videos, seed, self.progress)
        return self._pools[frames]


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

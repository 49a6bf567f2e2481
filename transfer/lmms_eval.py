"""A video model with a pruned cache as a model of lmms-eval, whose tasks and metrics it then gets.

With the extra `lmms-eval` installed:

    python -m lmms_eval --model transfer --tasks mlvu_dev \
        --model_args pretrained=llava-next-video,policy=namm,budget=0.25,frames=32

lmms-eval imports this module whenever it starts, so that what takes long waits for the model.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]
from rich.console import Console
from rich.progress import track
from torch import Tensor

from transfer.adapters.placement import AUTO, Dtype, Placement
from transfer.errors import UserError
from transfer.namm.config import DEFAULT_NAMM
from transfer.tasks.video_records import FRAME, VIDEO, Prompt

if TYPE_CHECKING:
    from transformers import Cache

    from transfer.adapters.video_model import VideoFeatures

_LOG = logging.getLogger(__name__)
#: Where lmms-eval's tasks say that an image stands.
_IMAGE = "<image>"


def manifest() -> Any:
    """What lmms-eval reads at the entry point `lmms_eval.models`."""
    from lmms_eval.models.registry_v2 import (  # pyright: ignore[reportMissingImports]
        ModelManifest,
    )

    return ModelManifest("transfer", simple_class_path=f"{__name__}.{PrunedVideoModel.__name__}")


class PrunedVideoModel(lmms):
    """A video model that answers with a pruned cache, one request at a time, greedily.

    Args:
        pretrained: shipped name, folder or hub id.
        policy: who prunes the cache; `full`: nobody.
        namm: of the policy namm.
        budget: tokens each head keeps, or a fraction; None: the policy's own threshold.
        update_interval: tokens between two evictions.
        eviction: exact or reference.
        keep_recent: newest tokens of each head that never leave.
        sinks: first tokens that never leave; of recency, how many it keeps.
        share: head, layer or model, see `Pruning`.
        share_floor: the part of its budget that a head does not share in its layer.
        threshold: tokens that score below it leave, where there is no budget.
        frames: of a video.
        sampling: how they are chosen, see `read_clip`.
        chunk: tokens of the prompt that go through the model at once; None: all.
        dtype: float32, bfloat16, float16 or float64; None: as stored.
        device: where the model runs, as lmms-eval's `--device` says; None: auto.
        device_map: of `from_pretrained`, instead of the device.
        trust_remote_code: run the Python that its tokenizer brings.
        batch_size: 1.
        **ignored: what else lmms-eval tells every model.

    Raises:
        UserError: a setting that is unknown or does not fit.
    """

    def __init__(
        self,
        pretrained: str = "llava-next-video",
        policy: str = "namm",
        namm: str = DEFAULT_NAMM,
        budget: int | float | None = None,
        update_interval: int = 64,
        eviction: str = "exact",
        keep_recent: int | None = None,
        sinks: int | None = None,
        share: str | None = None,
        share_floor: int | float | None = None,
        threshold: int | float | None = None,
        frames: int = 32,
        sampling: str = "uniform",
        chunk: int | None = None,
        dtype: Dtype | None = None,
        device: str | None = None,
        device_map: str | None = None,
        trust_remote_code: bool = False,
        batch_size: int | str = 1,
        **ignored: Any,
    ) -> None:
        from transfer.adapters.video_model import load_video_model
        from transfer.attachment.memory import Memory
        from transfer.cache.policy import Pruning
        from transfer.namm.network import NAMM
        from transfer.policies import get_policy, of_policy
        from transfer.video.sampling import check_sampling

        super().__init__()
        if str(batch_size) != "1":
            raise UserError(f"batch_size is {batch_size}; this model takes one request at a time")
        check_sampling(frames, sampling, None)
        settings = {"namm": NAMM.from_pretrained(namm)} if policy == "namm" else {}
        asked = {"keep_recent": keep_recent, "sinks": sinks}
        asked |= {"share": share, "share_floor": share_floor, "threshold": threshold}
        own, rest = of_policy(policy, asked)
        rule = get_policy(policy, **settings, **own)
        pruning = Pruning(rule, update_interval, budget, eviction, **rest)
        place = Placement(dtype, AUTO if device_map or device is None else device, device_map)
        self.video = load_video_model(
            pretrained, trust_remote_code=trust_remote_code, **place.settings
        )
        self.memory = Memory(self.video.adapter, pruning) if pruning.policy.evicts else None
        self.frames, self.sampling, self.chunk = frames, sampling, chunk
        self._last: tuple[str, VideoFeatures] | None = None

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Greedy replies.

        One is empty where the video or the prompt cannot be used; the log says why.

        Raises:
            UserError: a task wants replies that are not greedy.
        """
        for request in requests:
            _refuse_sampling(request.args[1], request.args[4])
        return [self._reply_or_nothing(*request.args) for request in _shown(requests)]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Mean negative log-likelihood of the continuations, and whether they are greedy.

        lmms-eval, unlike lm-eval, takes the least. Its release 0.7.3 turns these pairs into text
        before its multiple-choice tasks read them, so that those fail with every model.

        Raises:
            UserError: a video or prompt cannot be used; nothing returned would count as wrong.
        """
        return [self._loss(*request.args) for request in _shown(requests)]

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Raise `UserError`."""
        raise UserError("this model answers one round; choose tasks of one round")

    def _reply_or_nothing(self, *args: Any) -> str:
        try:
            return self._reply(*args)
        except UserError as error:
            _LOG.error("%s, document %s: %s", args[4], args[3], error)
            return ""

    def _reply(
        self,
        context: str,
        settings: dict[str, Any],
        visuals: Callable[[Any], Any],
        document: int,
        task: str,
        split: str,
    ) -> str:
        logits, cache = self._fill(context, visuals(self.task_dict[task][split][document]))
        reply = self.video.generate(logits, cache, settings.get("max_new_tokens", 1024))
        ends = settings.get("until") or ()
        for end in [ends] if isinstance(ends, str) else ends:
            reply = reply.split(end)[0] if end else reply
        return reply

    def _loss(
        self,
        context: str,
        continuation: str | Callable[[Any], str],
        visuals: Callable[[Any], Any],
        document: int,
        task: str,
        split: str,
    ) -> tuple[float, bool]:
        record = self.task_dict[task][split][document]
        answer = (continuation if isinstance(continuation, str) else continuation(record)).strip()
        if not answer:
            raise UserError("an empty answer has no likelihood; mend the task's options")
        tokens = len(self.video.chat.encode_answer(answer))
        logits, cache = self._fill(context, visuals(record))
        [likelihood] = self.video.option_log_likelihoods(logits, cache, [answer])
        greedy = self.video.generate(logits, cache, tokens) == answer
        return -likelihood / tokens, greedy

    def _fill(self, context: str, visuals: Any) -> tuple[Float[Tensor, "1 vocabulary"], "Cache"]:
        """What follows a prompt, and the cache after it."""
        from transformers import DynamicCache

        features = self._features(visuals or (), context.count(_IMAGE))
        frames = features.frames if features else 0
        ids = self.video.prompt_ids(Prompt(_parts(context, frames), ()), features or 0)
        memory, config = self.memory, self.video.adapter.config
        cache = memory.new_cache() if memory else DynamicCache(config=config)
        return self.video.prefill(ids, features, cache, self.chunk), cache

    def _features(self, visuals: Sequence[Any], places: int) -> "VideoFeatures | None":
        """Frames of a video, or images; the last video's are at hand for its next question."""
        from transfer.video.frames import read_clip

        if not visuals:
            return None
        if not isinstance(visuals[0], str | Path):
            return self.video.encode(_stacked(self._chosen(visuals, places)))
        if len(visuals) > 1:
            raise UserError(f"{len(visuals)} videos in one question; choose tasks of one video")
        name = str(visuals[0])
        if self._last is None or self._last[0] != name:
            clip = read_clip(Path(name), self.frames, self.sampling)
            for note in clip.notes:
                _LOG.warning("%s", note)
            self._last = name, self.video.encode(clip)
        return self._last[1]

    def _chosen(self, images: Sequence[Any], places: int) -> Sequence[Any]:
        """All images that the text has places for; else as many as a video has frames."""
        from transfer.video.sampling import pick

        if places == len(images) or len(images) <= self.frames:
            return images
        seconds = [float(place) for place in range(len(images))]
        return [images[place] for place in pick(seconds, self.frames, self.sampling, None)]


def _shown(requests: Sequence[Any]) -> Iterable[Any]:
    """The requests, with a progress bar."""
    return track(requests, "Asking", console=Console(stderr=True), transient=True)


def _parts(context: str, frames: int) -> tuple[str, ...]:
    """The frames at their places in the text, or all of them before it."""
    texts = context.split(_IMAGE)
    if not frames:
        return (context,)
    if len(texts) - 1 != frames:
        return (VIDEO, "\n" + "".join(texts).strip())
    return tuple(part for text in texts for part in (text, FRAME))[:-1]


def _stacked(images: Sequence[Any]) -> UInt8[np.ndarray, "frames height width 3"]:
    frames = [np.asarray(image.convert("RGB"), np.uint8) for image in images]
    if len({frame.shape for frame in frames}) > 1:
        raise UserError("images of different sizes in one question; choose tasks about videos")
    return np.stack(frames)


def _refuse_sampling(settings: dict[str, Any], task: str) -> None:
    """Tasks that do not want greedy replies would be given something else."""
    sampled = settings.get("do_sample") and settings.get("temperature", 1) != 0
    if sampled or (settings.get("num_beams") or 1) != 1:
        raise UserError(
            f"{task} samples or searches with beams, and this model replies greedily; set"
            " --gen_kwargs do_sample=False,num_beams=1"
        )

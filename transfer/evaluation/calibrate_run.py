"""`transfer calibrate`: the threshold at which a policy holds a share of the tokens, on average.

What is held is averaged over every token of the texts, layers and heads: each token counts what is
there while it attends, itself included. So a threshold that holds a quarter may hold more early and
less late, and more in one layer than in another.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transfer.adapters.language_model import LanguageModel, load_language_model
from transfer.adapters.placement import computed
from transfer.adapters.scoring import check_length
from transfer.adapters.weights import weights_digest
from transfer.arguments import typed
from transfer.attachment.adapter import Adapter, get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.policy import Policy, Pruning
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError
from transfer.evaluation.calibrate import CalibrateConfig
from transfer.evaluation.contenders import NAMMs, calibrated_pruning
from transfer.evaluation.sample import Sample
from transfer.evaluation.threads import torch_threads
from transfer.evaluation.threshold import policy_digest
from transfer.files import check_writable, content_digest, write_sealed
from transfer.namm.config import DEFAULT_NAMM
from transfer.progress import bars
from transfer.provenance import command_line, versions
from transfer.tasks.recall import get_task, make_batch
from transfer.tasks.text import language_for
from transfer.tasks.texts import read_texts

#: The search ends this close to the share that is wanted, or after so many thresholds.
_CLOSE, _MOST = 0.003, 14
#: Tokens that are read at once, and of each document.
_TOGETHER, _PIECE = 2048, 256
#: Scores that are kept of all, which are exact up to then: of a large model there are billions.
_SCORES = 2**20
#: Farther from it no threshold is written.
_FAR = 0.01


@typed
def calibrate(config: CalibrateConfig) -> str:
    """Find the threshold, write it, and say it in a line.

    Raises:
        UserError: the model, the policy or the texts cannot be had, the file cannot be written, or
            no threshold holds that share.
    """
    check_writable(config.out, "threshold")
    namms = NAMMs((DEFAULT_NAMM,))
    policy, pruning = calibrated_pruning(config.policy, config.update_interval, 0.0, namms)
    with torch_threads(config.threads):
        language = load_language_model(
            config.model, config.trust_remote_code, **config.place.settings
        )
        check_length(language.model, config.length, "a document")
        documents = _documents(config, language)
        with bars() as progress:
            # Most searches end before the last threshold.
            task = progress.add_task("reading", total=(_MOST + 1) * len(documents))
            read = partial(progress.advance, task)
            reading = _Reading(get_adapter(language.model), documents, read)
            threshold, held = _search(config, reading, pruning)
    content = {
        "command": command_line("calibrate", config, public=True),
        "model": language.name,
        "weights": weights_digest(language.model),
        "policy": config.policy,
        "namm": policy_digest(policy),
        "threshold": threshold,
        "kept": config.kept,
        "held": held,
        "update_interval": config.update_interval,
        "length": config.length,
        "documents": len(reading.documents),
        "texts": content_digest(reading.documents),
        "computed": computed(language.model),
        "versions": versions(),
    }
    write_sealed(config.out, content)
    return (
        f"{config.out}: at the threshold {threshold:.6g} {config.policy} holds {held:.1%} of the "
        f"tokens of {language.name} on average"
    )


@dataclass(frozen=True)
class _Reading:
    """A model, and the documents that it reads.

    Attributes:
        adapter: of the model.
        documents: their token ids, all of one length.
        read: told how many of them were read.
    """

    adapter: Adapter
    documents: Sequence[Sequence[int]]
    read: Callable[[int], None]

    @torch.inference_mode()
    def held(self, pruning: Pruning) -> float:
        """The share of all tokens that was held, averaged over time, layers and heads."""
        ids = torch.tensor(self.documents, device=self.adapter.model.device)
        means: list[float] = []
        with Memory(self.adapter, pruning) as memory:
            for some in ids.split(max(1, _TOGETHER // ids.shape[1])):
                cache = memory.new_cache()
                for piece in some.split(_PIECE, dim=1):
                    self.adapter.outputs({"input_ids": piece}, cache)
                means += [cache.held(sequence).mean for sequence in range(len(some))]
                self.read(len(some))
        # The full cache holds 1, 2, 3 ... tokens.
        return fmean(means) / ((ids.shape[1] + 1) / 2)


def _search(config: CalibrateConfig, reading: _Reading, pruning: Pruning) -> tuple[float, float]:
    """The threshold that holds the share, and what it holds.

    Scores change with what has left, so the thresholds that are tried are quantiles of the scores
    where nothing has (of a sample, where there are many), and what each holds is measured.

    Raises:
        UserError: none holds it.
    """
    listening = _Listening(pruning.policy)
    reading.held(replace(pruning, policy=listening, threshold=None))
    scores = listening.scores.values().numpy()
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        raise UserError(f"policy {config.policy} scores no token with a number; use another")
    low, high, middle = 0.0, 1.0, 1 - config.kept
    tried: dict[float, float] = {}
    for _ in range(_MOST):
        threshold = float(np.quantile(scores, middle))
        held = tried[threshold] = reading.held(replace(pruning, threshold=threshold))
        if abs(held - config.kept) <= _CLOSE:
            break
        low, high = (middle, high) if held > config.kept else (low, middle)
        middle = (low + high) / 2
    best = min(tried, key=lambda threshold: abs(tried[threshold] - config.kept))
    if abs(tried[best] - config.kept) > _FAR:
        raise UserError(
            f"no threshold of policy {config.policy} holds {config.kept:.1%} of the tokens on "
            f"average, the nearest holds {tried[best]:.1%}; ask for another share, or use a "
            "shorter --update-interval or a longer --length"
        )
    return best, tried[best]


def _documents(config: CalibrateConfig, language: LanguageModel) -> Sequence[Sequence[int]]:
    """Token ids of what is read, all of one length.

    Raises:
        UserError: the model reads no text, or no text is long enough.
    """
    tokenizer, length = language.tokenizer, config.length
    if config.task:
        vocabulary = language.model.config.get_text_config(decoder=True).vocab_size
        says = language_for(tokenizer, vocabulary)
        seeds = range(config.seed, config.seed + config.documents)
        batches = [make_batch(get_task(task), length, seeds, says) for task in config.task]
        return [ids for batch in batches for ids in batch.ids.tolist()]
    if tokenizer is None:
        raise UserError(
            f"{config.model} has no tokenizer to read texts with; calibrate it on a --task"
        )
    texts = [text for path in config.text for text in read_texts(path).values()]
    whole = [part for text in texts for part in _parts(tokenizer.encode(text), length)]
    if not whole:
        raise UserError(f"no text has {length} tokens; give longer ones, or a smaller --length")
    # Spread over all that there is.
    chosen = np.linspace(0, len(whole) - 1, min(config.documents, len(whole))).round()
    return [whole[int(place)] for place in chosen]


def _parts(ids: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids) - length + 1, length):
        yield ids[start : start + length]


class _Listening(Policy):
    """Keeps everything, and notes the scores of another policy."""

    name: ClassVar[str] = "listening"
    threshold: ClassVar[float | None] = 0.0

    def __init__(self, inner: Policy) -> None:
        self.inner = inner
        self.scores = Sample(_SCORES)
        for name in ("reads_attention", "state_size", "half_state", "byte_state", "multiple_of"):
            setattr(self, name, getattr(inner, name))

    def looks_back(self, update_interval: int) -> int:
        """As the other."""
        return self.inner.looks_back(update_interval)

    def accumulate(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> Float[Tensor, "batch kv_heads tokens size"]:
        """As the other."""
        return self.inner.accumulate(window, state)

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens size"]]:
        """Every token at the threshold."""
        scores, after = self.inner.score(window, state)
        self.scores.add(scores[window.valid])
        return state.new_zeros(scores.shape), after

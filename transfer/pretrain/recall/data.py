"""What a recall model is trained on: documents of all kinds of tasks, once they are long enough."""

from dataclasses import replace

import numpy as np
import torch

from transfer.tasks.base import FIRST_TRAINING_SEED, TokenBatch
from transfer.tasks.recall import RecallTask, make_batch

#: length -> most facts, most facts where they are overwritten, questions within the text
_SIZES = {
    32: (2, 2, 2),
    64: (5, 3, 3),
    128: (8, 5, 2),
    256: (12, 6, 4),
    512: (14, 8, 8),
    1024: (14, 8, 12),
}
_HARDER_FROM = 128


def mixture(length: int) -> tuple[RecallTask, ...]:
    """The kinds of documents trained on at a length; every fact is asked at the end."""
    most, few, interleaved = _SIZES[length]
    plain = RecallTask(facts=(min(2, most), most), questions=most, interleaved=interleaved)
    if length < _HARDER_FROM:
        return (plain,)
    overwritten = replace(plain, facts=(2, few), overwrites=0.5)
    return (
        plain,
        replace(overwritten, prose=True),
        overwritten,
        replace(plain, decoys=few),
        replace(overwritten, facts=(1, few // 2 + 1), passkey=4),
        replace(overwritten, facts=(1, few // 2 + 1), passkey=4, decoys=2, prose=True),
    )


def training_batch(length: int, tokens: int, seed: int, step: int) -> TokenBatch:
    """The documents of one step, a function of the run's seed and the step alone.

    Args:
        length: tokens of a document.
        tokens: in all documents together.
        seed: of the run.
        step: counted over all stages.
    """
    tasks, rows = mixture(length), max(1, tokens // length)
    first = FIRST_TRAINING_SEED * (seed + 1) + step * tokens
    kinds = np.random.default_rng((seed, step)).integers(len(tasks), size=rows)
    parts = [make_batch(tasks[kind], length, [first + row]) for row, kind in enumerate(kinds)]
    ids, answers = ([getattr(part, name) for part in parts] for name in ("ids", "answers"))
    return TokenBatch(torch.cat(ids), torch.cat(answers))

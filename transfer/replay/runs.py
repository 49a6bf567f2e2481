"""What is run to be recorded, and what is differentiated of it, which says what matters there.

Of a text it is the likelihood of its tokens. Of answers, options and actions to choose from it is
the odds of the one against all others, whose gradient does not vanish where a model is sure. Real
actions are differentiated each with a random sign.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfer.adapters.weights import weights_digest
from transfer.attachment.adapter import Adapter
from transfer.replay.config import RecordConfig
from transfer.replay.recording import bytes_of
from transfer.tasks.base import FIRST_TRAINING_SEED

#: Tokens that are run at once, and stand in one file.
TOGETHER = 2048
#: Seeds below are for reports and validation.
_FIRST_SEED = 2**32


@dataclass(frozen=True)
class Run:
    """Sequences of one length for one model.

    Attributes:
        name: of the file that they are written to.
        task: they are of.
        adapter: of the model.
        embeddings: of their tokens.
        objective: of the embeddings, what is differentiated.
        first: index of the first token, see `PrunedCache.count_from`.
        window: newest tokens that each attends to, itself among them; None: all.
    """

    name: str
    task: str
    adapter: Adapter
    embeddings: Float[Tensor, "rows tokens hidden"]
    objective: Callable[[Tensor], Tensor]
    first: int = 0
    window: int | None = None


@dataclass(frozen=True)
class Survey:
    """What is known of a model's records before the first.

    Attributes:
        size: bytes that all of them take, at most.
        weights: digest of the model's.
    """

    size: int
    weights: str

    @classmethod
    def of(cls, adapter: Adapter, tokens: int) -> "Survey":
        """Of so many tokens of a model, over all sequences."""
        return cls(bytes_of(adapter, tokens), weights_digest(adapter.model))


#: Of a model by name, every run whose file, by its name, is not written yet.
Runs = Callable[[RecordConfig, str, Callable[[str], bool]], Iterator[Run]]
Surveys = Callable[[RecordConfig, str], Survey]


def odds(
    logits: Float[Tensor, "*some values"], chosen: Int[Tensor, "*some"]
) -> Float[Tensor, "*some"]:
    """Log odds of the chosen value against all others together."""
    taken = logits.gather(-1, chosen[..., None])[..., 0]
    return taken - logits.scatter(-1, chosen[..., None], -torch.inf).logsumexp(-1)


def seeds(config: RecordConfig, task: str) -> list[int]:
    """Of the documents or episodes of a task."""
    rng = np.random.default_rng([config.seed, *task.encode()])
    return rng.integers(_FIRST_SEED, FIRST_TRAINING_SEED, config.documents).tolist()

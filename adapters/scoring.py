"""How well a language model answers: one pass over the documents, answers teacher-forced.

Greedy generation of an answer is right exactly if every token of it is the most likely one after
the tokens before, so that one pass scores both the probability and the exact answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.errors import MOST_TOKENS, UserError
from transfer.tasks.base import TokenBatch

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

#: Logits held at once, in numbers.
_LOGITS = 2**26


@dataclass(frozen=True)
class Scores:
    """Scores of each document, with a leading population axis where there was one.

    Attributes:
        answer_probability: mean over the document's answers of the probability of the whole answer.
        correct: share of the document's answers whose tokens are all the most likely ones.
        log_likelihood: mean over all tokens but the first, in nats.
    """

    answer_probability: Float[Tensor, "*population documents"]
    correct: Float[Tensor, "*population documents"]
    log_likelihood: Float[Tensor, "*population documents"]


@torch.inference_mode()
def score_batch(
    model: "PreTrainedModel",
    batch: TokenBatch,
    cache: "Cache | None" = None,
    population: int | None = None,
) -> Scores:
    """Score a causal language model on documents.

    Args:
        model: any causal language model, in evaluation mode.
        batch: the documents.
        cache: an empty cache, for example `memory.new_cache()` of an attached model; None: a full
            one.
        population: with an attached population of NAMMs, how many; all read the documents in one
            forward pass and the scores get a leading axis.

    Raises:
        UserError: the documents are longer than the model's positions.
    """
    check_length(model, batch.ids.shape[1])
    ids = batch.ids.to(model.device).repeat(population or 1, 1)
    chosen, best = _predictions(model, ids, cache)
    answers = batch.answers[:, 1:].to(model.device).repeat(population or 1, 1)
    probability, correct = _answered(chosen, best, answers)
    shape = (-1,) if population is None else (population, -1)
    scores = (probability, correct, chosen.mean(-1))
    return Scores(*(values.view(shape).cpu() for values in scores))


@torch.inference_mode()
def log_likelihoods(
    model: "PreTrainedModel", ids: Sequence[int], cache: "Cache | None" = None
) -> Float[Tensor, " predicted"]:
    """Log-likelihood of every token of a text but the first, in nats.

    Args:
        model: any causal language model, in evaluation mode.
        ids: of the text.
        cache: as of `score_batch`.
    """
    tokens = torch.tensor([ids], device=model.device)
    return _predictions(model, tokens, cache)[0][0].cpu()


def check_length(model: "PreTrainedModel", tokens: int, what: str = "a prompt") -> None:
    """Refuse more tokens than the model has positions.

    Raises:
        UserError: `what` is too long.
    """
    positions = positions_of(model)
    if tokens > positions:
        raise UserError(
            f"{what} of {tokens} tokens is longer than the {positions} positions of"
            f" {model.name_or_path or model.config.model_type}; use at most {positions}"
        )


def positions_of(model: "PreTrainedModel") -> int:
    """How many tokens it can read; of one that does not say it, how many anybody would."""
    config = model.config.get_text_config(decoder=True)
    return getattr(config, "max_position_embeddings", None) or MOST_TOKENS


def _predictions(
    model: "PreTrainedModel", ids: Int[Tensor, "rows tokens"], cache: "Cache | None"
) -> tuple[Float[Tensor, "rows predicted"], Bool[Tensor, "rows predicted"]]:
    """Log-probability of every token but the first, and whether it was the most likely one.

    Long inputs go through in pieces: their logits would not fit, and each is needed once.
    """
    from transformers import DynamicCache

    rows, tokens = ids.shape
    step = max(1, _LOGITS // (rows * model.config.get_text_config(decoder=True).vocab_size))
    if cache is None and step < tokens:
        cache = DynamicCache(config=model.config)
    chosen, best = [], []
    for start in range(0, tokens, step):
        piece = ids[:, start : start + step]
        logits = model(piece, cache=cache, use_cache=cache is not None).logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        following = ids[:, start + 1 : start + step + 1]
        logits = logits[:, : following.shape[1]]
        target = logits.gather(-1, following[..., None])[..., 0]
        chosen.append(target - logits.logsumexp(-1))
        best.append(logits.argmax(-1) == following)
    return torch.cat(chosen, 1), torch.cat(best, 1)


def _answered(
    chosen: Float[Tensor, "rows predicted"],
    best: Bool[Tensor, "rows predicted"],
    answers: Bool[Tensor, "rows predicted"],
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Probability and exactness of whole answers, averaged over each row's answers."""
    begins = answers & ~torch.nn.functional.pad(answers, (1, 0))[:, :-1]
    number = (begins.cumsum(-1) - 1).clamp(min=0)
    count = begins.sum(-1)
    sums = chosen.new_zeros(2, len(chosen), int(count.max()))
    sums[0].scatter_add_(1, number, chosen * answers)
    sums[1].scatter_add_(1, number, (~best & answers).to(sums.dtype))
    real = torch.arange(sums.shape[-1], device=chosen.device) < count[:, None]
    probability = (sums[0].exp() * real).sum(-1) / count
    return probability, ((sums[1] == 0) & real).sum(-1) / count

"""The two auxiliary losses that make recall learnable in minutes.

Plain cross-entropy stays at guessing one of the document's facts for very long. Two things must
come together that pay nothing alone: a layer that knows each token's predecessor, and a later head
that attends to the token behind an earlier copy of the present one. Each gets a loss of its own
while documents are short.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfer.tasks.base import TokenBatch

_PREVIOUS, _ATTENTION = 1.0, 0.5


def sources(batch: TokenBatch) -> Bool[Tensor, "documents tokens tokens"]:
    """For each token before an answer token (rows): where the same pair stood earlier (columns).

    Of the tokens (before, answer) at (t-1, t), row t-1 marks each p < t that has the answer at p
    and the token before at p-1.
    """
    ids = batch.ids
    same = ids[:, :, None] == ids[:, None, :]
    pair = same[:, 1:, 1:] & same[:, :-1, :-1] & batch.answers[:, 1:, None]
    return nn.functional.pad(pair.tril(-1), (1, 0, 0, 1))


def guidance_loss(
    previous: nn.Linear,
    hidden: Float[Tensor, "documents tokens width"],
    attention: Float[Tensor, "documents heads tokens tokens"],
    batch: TokenBatch,
) -> Float[Tensor, ""]:
    """Both auxiliary losses, weighted.

    Args:
        previous: guesses the token before from the hidden state.
        hidden: behind the first layer.
        attention: of the heads that are guided.
        batch: what the model read.
    """
    guesses = previous(hidden[:, 1:]).flatten(0, 1).float()
    before = nn.functional.cross_entropy(guesses, batch.ids[:, :-1].flatten())
    targets = sources(batch)
    mass = (attention.float() * targets[:, None]).sum(-1).transpose(0, 1)[:, targets.any(-1)]
    return _PREVIOUS * before - _ATTENTION * (mass + 1e-6).log().mean()


def recall_loss(
    logits: Float[Tensor, "documents tokens vocabulary"], batch: TokenBatch, plain: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Cross-entropy of the answers plus `plain` times that of all tokens.

    Returns:
        The loss, and the share of answer tokens that are right.
    """
    targets, answers = batch.ids[:, 1:], batch.answers[:, 1:]
    each = nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), targets, reduction="none"
    )
    right = (logits[:, :-1].argmax(-1) == targets)[answers].float().mean()
    return each[answers].mean() + plain * each.mean(), right


def previous_token_head(model: PreTrainedModel) -> nn.Linear:
    """The linear layer that guesses the token before; it is thrown away after training."""
    config = model.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(config.hidden_size, config.vocab_size)

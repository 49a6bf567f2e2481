"""Greedy replies to a prompt, and the likelihood of an answer, with whichever cache."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Reply:
    """What a model says.

    Attributes:
        text: without special tokens.
        tokens: that were generated, the one that ends it left out.
        ended: whether the model ended it, and not the most tokens that it may have.
    """

    text: str
    tokens: int
    ended: bool


@torch.inference_mode()
def read(model: PreTrainedModel, ids: Sequence[int], cache: Cache) -> Float[Tensor, "1 vocabulary"]:
    """Read tokens into a cache; the logits of the one that comes after them."""
    tokens = torch.tensor([ids], device=model.device)
    return model(tokens, cache=cache, use_cache=True, logits_to_keep=1).logits[:, -1]


@torch.inference_mode()
def answer_log_likelihood(
    model: PreTrainedModel,
    logits: Float[Tensor, "1 vocabulary"],
    cache: Cache,
    answer: Sequence[int],
) -> float:
    """Mean log-likelihood of an answer's tokens, in nats; the cache stays as it is.

    Args:
        model: that read the prompt.
        logits: of the answer's first token.
        cache: after the prompt.
        answer: at least one token.
    """
    ids = torch.tensor([answer], device=model.device)
    found = [logits[:, None]]
    if len(answer) > 1:
        found.append(model(ids[:, :-1], cache=deepcopy(cache), use_cache=True).logits)
    said = torch.cat(found, 1)
    said = said.to(torch.promote_types(said.dtype, torch.float32))
    chosen = said.log_softmax(-1).gather(-1, ids[..., None].to(said.device))
    return float(chosen.mean())


@torch.inference_mode()
def generate_reply(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    logits: Float[Tensor, "1 vocabulary"],
    cache: Cache,
    most: int,
    ends_at_newline: bool = False,
) -> Reply:
    """Go on greedily from a prompt; the cache grows.

    Args:
        model: that read the prompt.
        tokenizer: of the model.
        logits: of the reply's first token.
        cache: after the prompt.
        most: tokens.
        ends_at_newline: after one token at least.
    """
    ends = _ends(model, tokenizer)
    newline = (
        set(tokenizer.encode("\n", add_special_tokens=False)[-1:]) if ends_at_newline else set()
    )
    tokens: list[int] = []
    if newline:
        # As the authors' least length of one token does.
        logits = logits.clone()
        logits[:, sorted(ends | newline)] = -torch.inf
    while len(tokens) < most:
        token = int(logits[0].argmax())
        if token in ends or token in newline:
            return Reply(_text(tokenizer, tokens), len(tokens), True)
        tokens.append(token)
        if len(tokens) < most:
            logits = read(model, [token], cache)
    return Reply(_text(tokenizer, tokens), len(tokens), False)


def _text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that end a reply, as the tokenizer and the model's files say."""
    said: Any = getattr(model.generation_config, "eos_token_id", None)
    ends = [tokenizer.eos_token_id, *(said if isinstance(said, list) else [said])]
    return {token for token in ends if isinstance(token, int)}

"""The harness's own `hf` model with another cache; what concerns text is all inherited.

So are the order of requests, the beginning-of-text token, truncation on the left to `max_length`,
stop sequences, sampling and chat templates: under the policy `full` all numbers are those of `hf`.

A request is one text to the harness, which does not say where a document ends and a question
begins: the cache is pruned while both are read, so that policies see the question.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]
from torch import Tensor
from torch.nn.functional import log_softmax
from tqdm import tqdm
from transformers import Cache, DynamicCache

from transfer.adapters.language_model import load_language_model
from transfer.adapters.placement import AUTO
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.policy import Pruning
from transfer.errors import UserError, unknown_name
from transfer.evaluation.contenders import NAMMs, Spelling
from transfer.evaluation.options import ContenderOptions

_LOG = logging.getLogger(__name__)
#: What the `hf` model may be told here too.
_INHERITED = (
    "chat_template_args",
    "enable_thinking",
    "max_batch_size",
    "max_length",
    "prefix_token_id",
    "softmax_dtype",
    "think_end_token",
    "truncation",
)
#: A context, the tokens that follow it, and their likelihood and whether they are the greediest.
Request = tuple[Any, list[int], list[int]]
Answer = tuple[float, bool]


class PrunedLanguageModel(HFLM):
    """A causal language model whose cache is pruned.

    Args:
        pretrained: shipped name, folder or hub id, of a model with a tokenizer.
        policy: who prunes, as `transfer eval --policy` spells it: `namm:recall`, `h2o:budget=32`.
        budget: tokens each head keeps, or a fraction of those seen; None: the policy's threshold.
        update_interval: tokens between two evictions.
        dtype: of the weights, as `float32`; None: as they are stored.
        device: where the model runs, as the harness's `--device` says.
        trust_remote_code: run the Python that the model and its tokenizer bring.
        batch_size: replies generated at once, and continuations of one context.
        add_bos_token: begin texts with it; None: as the tokenizer does.
        **inherited: `max_length`, `prefix_token_id` and others of the `hf` model.

    Raises:
        UserError: a setting that is unknown or does not fit.
    """

    def __init__(
        self,
        pretrained: str,
        policy: str = "namm",
        budget: int | float | None = None,
        update_interval: int = 64,
        dtype: str | None = None,
        device: str | None = None,
        trust_remote_code: bool = False,
        batch_size: int | str = 1,
        add_bos_token: bool | None = None,
        **inherited: Any,
    ) -> None:
        for name in inherited:
            if name not in _INHERITED:
                known = [*signature(PrunedLanguageModel).parameters][:-1]
                raise unknown_name("model argument", name, [*known, *_INHERITED])
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise UserError(f"batch_size is {batch_size}; use a whole number from 1 on")
        pruning = _pruning(policy, budget, update_interval)
        language = load_language_model(pretrained, trust_remote_code, dtype, device or AUTO)
        if language.tokenizer is None:
            raise UserError(f"{pretrained} has no tokenizer and reads no text; use another model")
        super().__init__(
            language.model,
            # The harness sets the token of a tokenizer that it loads itself.
            tokenizer=language.tokenizer
            if add_bos_token is None
            else language.tokenizer.name_or_path,
            trust_remote_code=trust_remote_code,
            batch_size=int(batch_size),
            add_bos_token=add_bos_token,
            **inherited,
        )
        # By which results name it.
        self.pretrained = pretrained
        self.memory = Memory(get_adapter(self.model), pruning) if pruning.policy.evicts else None

    def _new_cache(self) -> Cache:
        memory = self.memory
        return memory.new_cache() if memory else DynamicCache(config=self.model.config)

    def _model_generate(
        self, context: Tensor, max_length: int, stop: list[str], **settings: Any
    ) -> Tensor:
        """The harness's own generation, into a new cache."""
        return super()._model_generate(
            context, max_length, stop, cache=self._new_cache(), **settings
        )

    @torch.no_grad()
    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: Any = None
    ) -> list[Answer]:
        """Likelihoods of continuations; a context that several share is read once.

        Args:
            requests: what the answer is stored under, tokens of a context, tokens that follow it.
            disable_tqdm: show no progress.
            override_bs: ignored; contexts are read one by one.
        """
        same: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, (_, context, continuation) in enumerate(requests):
            same[self._fitting(context, continuation)].append(place)
        # As HFLM does: the longest first, so that what does not fit into memory fails at once.
        contexts = sorted(same, key=len, reverse=True)
        answers: dict[int, Answer] = {}
        for context in tqdm(contexts, "Running loglikelihood requests", disable=disable_tqdm):
            some = [requests[place] for place in same[context]]
            found = self._answers(context, [continuation for *_, continuation in some])
            for place, (key, *_), answer in zip(same[context], some, found):
                answers[place] = answer
                if key is not None:
                    self.cache_hook.add_partial("loglikelihood", key, answer)
        return [answers[place] for place in range(len(requests))]

    def _fitting(self, context: list[int], continuation: list[int]) -> tuple[int, ...]:
        """The last tokens of a context that fit; the last of a continuation is never read."""
        most = self.max_length + 1 - len(continuation)
        if most < 1:
            raise UserError(
                f"a continuation has {len(continuation)} tokens and max_length is"
                f" {self.max_length}; raise max_length or choose another task"
            )
        if len(context) > most:
            _LOG.warning("the first %d tokens of a context do not fit", len(context) - most)
        return tuple(context[-most:])

    def _answers(self, context: Sequence[int], continuations: list[list[int]]) -> Iterator[Answer]:
        """Of all continuations of one context, which is read once."""
        cache = self._new_cache()
        ids = torch.tensor([context], device=self.device)
        first = self.model(ids, cache=cache, logits_to_keep=1).logits
        for start in range(0, len(continuations), self.batch_size):
            some = continuations[start : start + self.batch_size]
            for row, tokens in zip(self._logits(cache, first, some), some):
                yield self._answer(row[: len(tokens)], tokens)

    def _logits(
        self, cache: Cache, first: Float[Tensor, "1 1 vocabulary"], some: list[list[int]]
    ) -> Float[Tensor, "continuations longest vocabulary"]:
        """Logits of every token of continuations, which leave the cache as it is."""
        longest = max(map(len, some))
        firsts = first.expand(len(some), -1, -1)
        if longest == 1:
            return firsts
        own = deepcopy(cache)
        if len(some) > 1:
            own.batch_repeat_interleave(len(some))
        # What stands behind a continuation that is shorter is seen by nobody.
        padded = [[*tokens, *[0] * (longest - len(tokens))][:-1] for tokens in some]
        ids: Int[Tensor, "continuations tokens"] = torch.tensor(padded, device=self.device)
        return torch.cat([firsts, self.model(ids, cache=own).logits], 1)

    def _answer(self, logits: Float[Tensor, "tokens vocabulary"], tokens: list[int]) -> Answer:
        ids = torch.tensor(tokens, device=logits.device)
        likelihoods = log_softmax(logits, -1, dtype=self.softmax_dtype)
        greedy = bool((logits.argmax(-1) == ids).all())
        return float(likelihoods.gather(1, ids[:, None]).sum()), greedy


def _pruning(policy: str, budget: int | float | None, update_interval: int) -> Pruning:
    options = ContenderOptions(policy=(policy,), budget=(budget,), update_interval=update_interval)
    spelling = Spelling.of(policy)
    # Of the options' NAMMs there is one.
    [(_, rule)] = spelling.policies(NAMMs(options.namm))
    return spelling.pruning(rule, budget, options)

"""KVzip's reading: a model repeats the text that it has read, and shows what it looks at.

Formula and prompts are those of arXiv 2505.23416 and of kvpress' KVzipPress. A text of more than
`chunk` tokens is repeated in parts, each from the same cache. Of each query the attention to the
first tokens, the part that it repeats and what it has repeated so far is scaled to a sum of 1; the
score of a token of the part is the most that a query of any head of its group gives it.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from transfer.adapters.prompts import Form, common, encode_prompt
from transfer.adapters.replying import read
from transfer.adapters.scoring import positions_of
from transfer.attachment.adapter import Adapter
from transfer.attachment.memory import Memory
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.policies import get_policy
from transfer.policies.kvzip import KVzip, Repeated
from transfer.tasks.reading import Sample

_WHOLE = "\n\nRepeat the previous context exactly."
_PART = "\n\nRepeat the part of the previous context exactly, starting with"
#: Tokens of the part before that tell where the next one starts.
_BEFORE = 8


@dataclass(frozen=True)
class Part:
    """A part of a text, as it is repeated.

    Attributes:
        start, end: tokens of the text.
        ids: what is read behind the text: the request, and the part.
    """

    start: int
    end: int
    ids: tuple[int, ...]


def repeated(
    adapter: Adapter,
    tokenizer: PreTrainedTokenizerBase,
    text: Sequence[int],
    form: Form,
    pruning: Pruning,
) -> Pruning:
    """How KVzip prunes one text: once, behind its last token.

    Args:
        adapter: of the model, which is not attached.
        tokenizer: of the model.
        text: tokens before the question.
        form: how the question is put.
        pruning: whose policy is `KVzip`.

    Raises:
        UserError: there is nothing to repeat, or no room for it.
    """
    policy = pruning.policy
    assert isinstance(policy, KVzip)
    parts = list(parts_of(tokenizer, text, form, policy.chunk))
    if not parts:
        raise UserError(
            "policy kvzip has the model repeat the text before the question, and there is none; "
            "leave it out"
        )
    needed = len(text) + max(len(part.ids) for part in parts)
    positions = positions_of(adapter.model)
    if needed > positions:
        raise UserError(
            f"policy kvzip needs {needed} positions to repeat a text of {len(text)} tokens, and "
            f"the model has {positions}; take shorter texts, or a kvzip:chunk below {policy.chunk}"
        )
    scores = scores_of(adapter, text, parts, policy.sinks)
    # There is no second update: what comes behind the text stays.
    return replace(pruning, policy=Repeated(scores), update_interval=positions)


def parts_of(
    tokenizer: PreTrainedTokenizerBase, text: Sequence[int], form: Form, chunk: int
) -> Iterator[Part]:
    """The parts of a text, without what a chat template puts before it."""
    around = encode_prompt(tokenizer, Sample("", "", "" if form == "chat" else "\n", ()), form)
    head = common(around.ids[: around.context], text)
    for start in range(head, len(text), chunk):
        first = start == head
        request = tokenizer.encode(_WHOLE if first else _PART, add_special_tokens=False)
        before = () if first else text[start - min(chunk, _BEFORE) : start]
        end = min(start + chunk, len(text))
        said = (*request, *before, *around.ids[around.context :], *text[start:end])
        yield Part(start, end, said)


@torch.no_grad()
def scores_of(
    adapter: Adapter, text: Sequence[int], parts: Sequence[Part], sinks: int
) -> dict[int, Float[Tensor, "1 kv_heads tokens"]]:
    """Of each layer that is pruned, the most attention each token of the text gets, sinks 1."""
    longest = max(len(part.ids) for part in parts)
    shown = Pruning(get_policy("full"), longest, expose_attention=True)
    scores: dict[int, Tensor] = {}
    with Memory(adapter, shown) as memory:
        cache = memory.new_cache()
        # An update falls on the last token, so that the queries since are those of a repetition.
        cache.count_from(-len(text) % longest)
        read(adapter.model, text, cache)
        for part in parts:
            twin = deepcopy(cache)
            read(adapter.model, part.ids, twin)
            for layer in twin.used:
                found = looked_at(layer.attention()[0], part, len(text), sinks, layer.kv_heads)
                own = scores.setdefault(layer.index, found.new_zeros(1, len(found), len(text)))
                own[..., part.start : part.end] = found
                own[..., :sinks] = 1
    return scores


def looked_at(
    attention: Float[Tensor, "heads queries seen"], part: Part, text: int, sinks: int, kv_heads: int
) -> Float[Tensor, "kv_heads tokens"]:
    """The most attention that each token of a part gets from its repetition.

    Args:
        attention: of the queries of the repetition, to the text and to themselves.
        part: which one.
        text: tokens of it.
        sinks: first tokens that take part in the sum of 1.
        kv_heads: of the layer.
    """
    before = min(sinks, part.start)
    own = [attention[..., :before], attention[..., part.start : part.end], attention[..., text:]]
    sums = sum(each.sum(-1, keepdim=True) for each in own)
    return (own[1] / sums).unflatten(0, (kv_heads, -1)).amax((1, 2))

"""From a sample of a task to the tokens that a model reads: completion or chat, cut if too long."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from transfer.errors import UserError
from transfer.tasks.reading import Sample

Form = Literal["completion", "chat"]
#: Stands for the end of the context while a chat template is put around it.
_HERE = "\u2063\u2064\u2063"


@dataclass(frozen=True)
class Prompt:
    """What is read before a reply.

    Attributes:
        ids: of the whole.
        context: how many of them come before the question.
        answer: those of the answer whose likelihood is measured; none: there is no such.
    """

    ids: tuple[int, ...]
    context: int
    answer: tuple[int, ...] = ()


def has_chat(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer brings a chat template."""
    return bool(tokenizer.chat_template)


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, sample: Sample, form: Form, answer: str | None = None
) -> Prompt:
    """The tokens of a prompt.

    It is tokenized as a whole, so that its tokens are those that its authors' code would make;
    tokens that reach into the question are the question's.

    Args:
        tokenizer: of the model.
        sample: what is asked.
        form: a text to be completed, or a conversation by the tokenizer's chat template, in which
            the sample's prefix begins the assistant's turn.
        answer: whose tokens are wanted too.

    Raises:
        UserError: the chat template cannot be used.
    """
    first, last = _rendered(tokenizer, sample, form)
    special = form == "completion"

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=special)

    whole = ids(first + last)
    prompt = Prompt(tuple(whole), common(ids(first), whole))
    if not answer:
        return prompt
    begun = last[-1:].isspace() or answer[:1].isspace() or (form == "chat" and not sample.prefix)
    # Chinese and Japanese have no spaces.
    space = "" if begun or not last[-1:].isascii() else " "
    answered = ids(f"{first}{last}{space}{answer}")
    if answered[: len(whole)] != whole:
        # The tokenizer would join the end of the prompt with the answer, but it is read already.
        answered = whole + tokenizer.encode(space + answer, add_special_tokens=False)
    return replace(prompt, answer=tuple(answered[len(whole) :]))


def cut_sample(tokenizer: PreTrainedTokenizerBase, sample: Sample, most: int, how: str) -> Sample:
    """Take tokens out of the middle of a prompt that has more than `most`.

    Args:
        tokenizer: of the model.
        sample: what is asked.
        most: tokens of the text, without what a chat template or the tokenizer put around it.
        how: `halves` are decoded each alone (LongBench), or `joined` (InfiniteBench).
    """
    text = sample.context + sample.question
    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) <= most:
        return sample
    half = most // 2
    parts = [ids[:half], ids[len(ids) - half :]]
    if how == "joined":
        parts = [parts[0] + parts[1]]
    text = "".join(str(tokenizer.decode(part, skip_special_tokens=True)) for part in parts)
    # A question that is itself cut, or decoded otherwise, is what is left of it.
    place = max(0, len(text) - len(sample.question))
    return replace(sample, context=text[:place], question=text[place:])


def _rendered(tokenizer: PreTrainedTokenizerBase, sample: Sample, form: Form) -> tuple[str, str]:
    """The text up to the question, and from there on."""
    if form == "completion":
        return sample.context, sample.question + sample.prefix
    said = f"{sample.context}{_HERE}{sample.question}"
    message: list[dict[str, Any]] = [{"role": "user", "content": said}]
    try:
        text = str(
            tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        )
    except (TemplateError, ValueError, TypeError) as error:
        raise UserError(
            f"the chat template of the tokenizer fails ({error}); mend it, or use --prompt"
            " completion"
        ) from error
    first, here, last = text.partition(_HERE)
    if not here:
        raise UserError(
            "the chat template of the tokenizer leaves the user's words out; mend it, or use"
            " --prompt completion"
        )
    return first, last + sample.prefix.lstrip()


def common(part: Sequence[int], whole: Sequence[int]) -> int:
    """How many tokens two begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(part, whole)))

"""How many pieces make a prompt as long as it may be, found with few counts of its tokens."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from transfer.errors import UserError
from transfer.tasks.reading import ReadingTask, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Pieces of the second count, which with the first says how long one is.
_SECOND = 40
#: A share of the length that may remain unused.
_NEAR = 1 / 1000


def count_tokens(tokenizer: "PreTrainedTokenizerBase", text: str) -> int:
    """Tokens of a text, those counted that the tokenizer puts before and after it."""
    return len(tokenizer(text, verbose=False)["input_ids"])


def fitted(
    task: ReadingTask,
    make: Callable[[int], Sample],
    least: int,
    length: int,
    tokenizer: "PreTrainedTokenizerBase",
) -> Sample:
    """The longest sample that fits with its reply.

    Args:
        task: whose sample it is.
        make: the sample of so many pieces of text.
        least: the fewest that it can have.
        length: the most tokens of prompt and reply.
        tokenizer: counts them.

    Raises:
        UserError: that of the fewest pieces does not fit.
    """

    def tokens(pieces: int) -> int:
        sample = make(pieces)
        text = f"{sample.context}{sample.question}{sample.prefix}"
        return count_tokens(tokenizer, text) + task.new_tokens

    if (needed := tokens(least)) > length:
        raise too_short(task, length, needed)
    return make(most_pieces(tokens, least, length, needed))


def too_short(task: ReadingTask, length: int, needed: int) -> UserError:
    """The error for a length that does not hold a task.

    It says how much longer; of what was told a chat template may have been taken off.
    """
    return UserError(
        f"{length} tokens do not hold {task.name}, which takes {needed} or more with its reply; "
        f"use a --length of {needed - length} more"
    )


def most_pieces(tokens: Callable[[int], int], least: int, room: int, needed: int) -> int:
    """The most pieces whose tokens fit, up to a thousandth of the room.

    Args:
        tokens: of so many pieces; about in proportion.
        least: pieces that fit.
        room: the most tokens.
        needed: tokens of `least`.
    """
    low, used, high, probe = least, needed, None, least + _SECOND
    while room - used > room * _NEAR and (high is None or high - low > 1):
        found = tokens(probe)
        if found > room:
            high, each = probe, (found - used) / (probe - low)
        else:
            low, used, each = probe, found, (found - needed) / (probe - least)
        # One more at least, whatever the estimate, so that it ends.
        probe = low + max(1, int((room - used) / max(each, _NEAR)))
        probe = probe if high is None else min(probe, high - 1)
    return low

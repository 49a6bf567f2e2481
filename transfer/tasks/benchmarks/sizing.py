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


def count_with_reply(
    tokenizer: "PreTrainedTokenizerBase", task: ReadingTask, sample: Sample
) -> int:
    """Tokens of a prompt's text and of the longest reply."""
    text = f"{sample.context}{sample.question}{sample.prefix}"
    return count_tokens(tokenizer, text) + task.new_tokens


def fitted(
    make: Callable[[int], Sample], count: Callable[[Sample], int], least: int, room: int
) -> Sample | None:
    """The longest sample that fits; None: that of the fewest pieces does not.

    Args:
        make: the sample of so many pieces of text.
        count: tokens of the text of a sample and its reply.
        least: the fewest pieces that it can have.
        room: the most tokens.

    Raises:
        UserError: as `most_pieces`.
    """

    def tokens(pieces: int) -> int:
        return count(make(pieces))

    needed = tokens(least)
    return make(most_pieces(tokens, least, room, needed)) if needed <= room else None


def too_short(task: ReadingTask, length: int, needed: int) -> UserError:
    """The error for a length that does not hold a task, which takes `needed` tokens in all."""
    return UserError(
        f"--length {length} does not hold {task.name}, which takes {needed} tokens or more with its"
        f" reply; use --length {needed} or more"
    )


def most_pieces(tokens: Callable[[int], int], least: int, room: int, needed: int) -> int:
    """The most pieces whose tokens fit, up to a thousandth of the room.

    Args:
        tokens: of so many pieces; about in proportion.
        least: pieces that fit.
        room: the most tokens.
        needed: tokens of `least`.

    Raises:
        UserError: many more pieces are no more tokens, as of a tokenizer that skips what it does
            not know.
    """
    low, used, high, probe = least, needed, None, least + _SECOND
    while room - used > room * _NEAR and (high is None or high - low > 1):
        found = tokens(probe)
        if found <= used and probe - low >= _SECOND:
            raise UserError(
                f"the tokenizer makes no more tokens of {probe} pieces of text than of {low}, so "
                "that no text is as long as it should be; use a model whose tokenizer reads English"
            )
        if found > room:
            high, each = probe, (found - used) / (probe - low)
        else:
            low, used, each = probe, found, (found - needed) / (probe - least)
        # One more at least, whatever the estimate, so that it ends.
        probe = low + max(1, int((room - used) / max(each, _NEAR)))
        probe = probe if high is None else min(probe, high - 1)
    return low

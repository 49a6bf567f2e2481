"""The longest text that fits is found with few counts, whatever the pieces weigh."""

import random
from contextlib import suppress
from itertools import chain

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from transfer.errors import UserError
from transfer.tasks.benchmarks import FAMILIES, reading_tasks
from transfer.tasks.benchmarks.sizing import most_pieces
from transfer.tasks.reading import MadeTask
from transfer.tasks.recall_text import READINGS

MADE = [
    task
    for task in (*READINGS.values(), *chain.from_iterable(map(reading_tasks, FAMILIES)))
    if isinstance(task, MadeTask) and not task.lacks(None)
]
ROOMS = (700, 1024, 8192, 131_072)


def weighed(each, noise=0, template=120):
    """Tokens of so many pieces, of which each weighs up to `noise` more or less; and the calls."""
    asked = []

    def tokens(pieces):
        asked.append(pieces)
        return template + round(each * pieces) + random.Random(pieces).randint(-noise, noise)

    return tokens, asked


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("each", [0.9, 1.3, 5.0, 24.0, 90.0, 210.0])
def test_no_more_pieces_would_fit(room, each):
    tokens, asked = weighed(each)
    found = most_pieces(tokens, 2, room, tokens(2))
    assert tokens(found) <= room
    assert tokens(found + 1) > room or room - tokens(found) <= room / 1000
    assert len(asked) - 2 <= 6


@pytest.mark.parametrize("room", ROOMS)
def test_uneven_pieces_take_few_counts_more(room):
    tokens, asked = weighed(1.3, noise=2)
    found = most_pieces(tokens, 4, room, tokens(4))
    assert room - max(room / 1000, 4) <= tokens(found) <= room
    assert len(asked) - 2 <= 12


def test_numbering_that_grows_is_no_trouble():
    def tokens(pieces):
        return sum(1 + len(str(number)) for number in range(pieces))

    found = most_pieces(tokens, 20, 131_072, tokens(20))
    assert 131_072 - 132 <= tokens(found) <= 131_072


@pytest.mark.parametrize("saturated", [0, 60, 300])
def test_pieces_that_are_no_tokens_are_no_endless_search(saturated):
    def tokens(pieces):
        return 120 + min(pieces, saturated)

    with pytest.raises(
        UserError, match=r"makes no more tokens of \d+ pieces of text than of \d+, "
    ):
        most_pieces(tokens, 2, 8192, tokens(2))


@pytest.mark.parametrize("known", ["我", "ACGT", "0123456789", "z."])
@pytest.mark.parametrize("task", MADE, ids=lambda task: task.name)
def test_texts_for_a_tokenizer_that_skips_them_end(task, known):
    words = models.BPE({letter: at for at, letter in enumerate(known)}, [])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words))
    ended = "the tokenizer (makes no|has no)"
    # What has letters of these is asked, if with much text; the first is in none.
    with pytest.raises(UserError, match=ended) if known == "我" else suppress(UserError):
        assert list(task.samples(1024, (0,), tokenizer))


def test_where_the_fewest_fill_the_room_they_are_it():
    tokens, asked = weighed(100, template=0)
    assert most_pieces(tokens, 7, 700, 700) == 7
    assert not asked
    assert most_pieces(tokens, 7, 799, 700) == 7

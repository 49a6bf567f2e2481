"""The recall tasks in English: the facts of the symbols, asked one by one."""

import re

import pytest
from tasks.words import word_tokenizer

from transfer.errors import UserError
from transfer.tasks.english import KEY_WORDS, VALUE_WORDS
from transfer.tasks.prose import sentences
from transfer.tasks.recall import TASKS, make_batch
from transfer.tasks.recall_text import READINGS
from transfer.tasks.symbols import ASK, FACT, FIRST_KEY, FIRST_VALUE

SAID = re.compile(r"The colour of the (\w+) is (\w+)\.\n")
TOKENIZER = word_tokenizer()


def tokens(text):
    return len(TOKENIZER.encode(text, add_special_tokens=False))


def samples(name, length=600, seeds=range(6), **options):
    return list(READINGS[name].samples(length, seeds, TOKENIZER, **options))


@pytest.mark.parametrize("name", TASKS)
def test_documents_have_at_most_the_tokens_asked_for_and_hardly_fewer(name):
    for length in (400, 1500):
        for one in samples(name, length):
            whole = one.context + one.question + one.prefix
            assert length - 100 < tokens(whole) + READINGS[name].new_tokens <= length


@pytest.mark.parametrize("name", ["recall", "overwritten", "decoys", "prose", "needle"])
def test_the_same_facts_and_answers_as_in_symbols(name):
    symbols = make_batch(TASKS[name], 600, range(6)).ids.tolist()
    for seed, ids in enumerate(symbols):
        own = [one for one in samples(name) if str(one.item).startswith(f"{seed}.")]
        stated = pairs(ids, FACT)
        for one in own:
            assert SAID.findall(one.context) == stated
            assert dict(stated)[one.prefix.split()[-2]] == one.answers[0]
        assert [(one.prefix.split()[-2], one.answers[0]) for one in own] == pairs(ids, ASK)


def pairs(ids, mark):
    return [
        (KEY_WORDS[ids[at + 1] - FIRST_KEY], VALUE_WORDS[ids[at + 2] - FIRST_VALUE])
        for at, token in enumerate(ids)
        if token == mark
    ]


def test_pass_keys():
    for one in samples("passkey"):
        assert f"The pass key is {one.answers[0]}.\n" in one.context
        assert one.prefix == "The pass key is"
        assert READINGS["passkey"].score(f" {one.answers[0]}.", one) == 1
        assert READINGS["passkey"].score(" 12", one) == 0


def test_a_document_at_each_depth():
    found = samples("needle", 2000, [3], depths=(0.0, 0.5, 1.0))
    assert [(one.item, one.groups) for one in found] == [
        ("3@0.0", {"depth": "0"}), ("3@0.5.0", {"depth": "0.5"}), ("3@1.0", {"depth": "1"})
    ]  # fmt: skip
    for one, depth in zip(found, (0, 0.5, 1)):
        at = SAID.search(one.context).start() / len(one.context)
        assert abs(at - depth) < 0.07


def test_distractors_are_whole_sentences_of_the_library():
    known = set(sentences())
    for one in samples("needle"):
        _, *lines = one.context.splitlines()
        assert sum(line not in known for line in lines) == 1


def test_too_short_a_document_says_what_it_needs():
    said = r"50 tokens cannot hold .* of recall, which are (\d+); use --length \1 or more"
    with pytest.raises(UserError, match=said) as error:
        samples("recall", 50, [0], around=30)
    least = int(re.findall(r"\d+", str(error.value))[-1])
    assert samples("recall", least, [0], around=30)
    with pytest.raises(UserError, match="cannot hold"):
        samples("recall", least - 1, [0], around=30)


def test_what_is_around_a_text_is_taken_off_its_length():
    assert samples("recall", 1000, around=400) == samples("recall", 600)

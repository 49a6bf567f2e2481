import re

import pytest
import tiny
import torch
from tasks.words import word_tokenizer

from transfer.adapters.scoring import score_batch
from transfer.errors import UserError
from transfer.tasks.english import KEY_WORDS, NOISE_WORDS, VALUE_WORDS
from transfer.tasks.prose import sentences
from transfer.tasks.recall import TASKS, get_task, make_batch
from transfer.tasks.symbols import Symbols
from transfer.tasks.text import Text, language_for

FACT = re.compile(r"The colour of the (\w+) is (\w+)\.")
ASKED = re.compile(r"Question: What is the colour of the (\w+)\? Answer: (\w+)")


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


def texts(tokenizer, task, length=600, seeds=range(8)):
    batch = make_batch(task, length, seeds, Text(tokenizer))
    assert batch.ids.shape == (len(seeds), length)
    return batch, [tokenizer.decode(ids) for ids in batch.ids]


def test_words_are_all_different():
    assert [len(set(words)) for words in (KEY_WORDS, VALUE_WORDS, NOISE_WORDS)] == [32, 32, 48]


@pytest.mark.parametrize("name", ["recall", "overwritten", "decoys", "prose", "needle"])
def test_the_last_statement_is_the_answer(tokenizer, name):
    batch, documents = texts(tokenizer, TASKS[name])
    for ids, answers, text in zip(batch.ids, batch.answers, documents):
        assert text.startswith("<s>Some of these sentences say")
        stated = dict(FACT.findall(text))
        asked = ASKED.findall(text)
        assert asked and all(stated[key] == value for key, value in asked)
        assert tokenizer.decode(ids[answers]).split() == [value for _, value in asked]


def test_pass_keys(tokenizer):
    batch, documents = texts(tokenizer, TASKS["passkey"])
    for ids, answers, text in zip(batch.ids, batch.answers, documents):
        [stated] = re.findall(r"The pass key is (\d{4})\.", text)
        assert f"Question: What is the pass key? Answer: {stated}\n" in text
        assert tokenizer.decode(ids[answers]).strip() == stated


def test_same_facts_as_in_symbols(tokenizer):
    _, documents = texts(tokenizer, TASKS["overwritten"])
    symbols = make_batch(TASKS["overwritten"], 600, range(8), Symbols())
    for ids, text in zip(symbols.ids.tolist(), documents):
        facts = [
            (KEY_WORDS[ids[at + 1] - 16], VALUE_WORDS[ids[at + 2] - 48])
            for at, token in enumerate(ids)
            if token == 2
        ]
        assert FACT.findall(text) == facts


def test_distractors_are_the_library_s_own_sentences(tokenizer):
    _, documents = texts(tokenizer, TASKS["needle"])
    known = set(sentences())
    for text in documents:
        _, *lines = text.splitlines()
        middle = [line for line in lines if not FACT.search(line) and "Question:" not in line]
        # the last one may be cut short
        assert len(middle) > 5 and set(middle[:-1]) <= known


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_needle_at_a_depth(tokenizer, depth):
    _, documents = texts(tokenizer, get_task("needle", depth), 2000)
    for text in documents:
        before, after = FACT.split(text)[0], FACT.split(text)[3]
        share = len(before) / (len(before) + len(after))
        assert abs(share - depth) < 0.07


def test_a_tokenizer_that_knows_no_words():
    with pytest.raises(UserError, match="cannot spell plain English"):
        Text(word_tokenizer(corpus=["x"], unknown="<unk>"))


def test_a_model_is_scored_on_text(tokenizer):
    batch, _ = texts(tokenizer, TASKS["needle"], 300, range(3))
    model = tiny.llama()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    scores = score_batch(model, batch)
    logits = model(batch.ids[:1]).logits[0].log_softmax(-1)
    [places] = batch.answers[:1].nonzero()[:, 1:].T.tolist()
    answer = sum(logits[at - 1, batch.ids[0, at]] for at in places)
    torch.testing.assert_close(scores.answer_probability[0], answer.exp(), rtol=1e-3, atol=0)


def test_language_for(tokenizer):
    assert isinstance(language_for(tokenizer, 1000), Text)
    assert isinstance(language_for(None, 128), Symbols)
    with pytest.raises(UserError, match="no tokenizer and 97 tokens"):
        language_for(None, 97)

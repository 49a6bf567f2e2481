"""Greedy replies and the likelihood of an answer, beside transformers' own generation."""

import pytest
import tiny
import torch
from tasks.words import word_tokenizer
from transformers import DynamicCache

from transfer import attach
from transfer.adapters.replying import answer_log_likelihood, generate_reply, read

TOKENIZER = word_tokenizer()
IDS = tuple(TOKENIZER.encode("The lamp is red and the box is blue. " * 4))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny.llama(vocabulary=len(TOKENIZER))


def replied(model, most=12, newline=False, cache=None):
    cache = DynamicCache(config=model.config) if cache is None else cache
    return generate_reply(model, TOKENIZER, read(model, IDS, cache), cache, most, newline)


def test_replies_are_what_generate_says(model):
    ids = torch.tensor([IDS])
    said = model.generate(ids, max_new_tokens=12, do_sample=False)[0, len(IDS) :]
    reply = replied(model)
    assert reply.text == TOKENIZER.decode(said, skip_special_tokens=True)
    assert (reply.tokens, reply.ended) == (12, False)


def test_a_reply_ends_where_the_model_s_files_say(model):
    third = model.generate(torch.tensor([IDS]), max_new_tokens=3, do_sample=False)[0, -1].item()
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [5, third]
    try:
        reply = replied(model)
    finally:
        model.generation_config.eos_token_id = before
    assert (reply.tokens, reply.ended) == (2, True)


def test_a_line_has_one_token_at_least(model, monkeypatch):
    newline, other = TOKENIZER.encode("\n")[-1], TOKENIZER.encode("x")[-1]
    logits = torch.zeros(1, len(TOKENIZER))
    logits[0, newline], logits[0, other] = 2.0, 1.0
    monkeypatch.setattr("transfer.adapters.replying.read", lambda *args: logits)
    reply = generate_reply(model, TOKENIZER, logits, DynamicCache(), 9, True)
    assert (reply.text, reply.tokens, reply.ended) == ("x", 1, True)
    assert generate_reply(model, TOKENIZER, logits, DynamicCache(), 3).text == "\n\n\n"


@pytest.mark.parametrize("answer", [(7,), (7, 8, 9)])
@pytest.mark.parametrize("policy", ["full", "h2o"])
def test_an_answer_s_likelihood_leaves_the_cache_as_it_is(model, answer, policy):
    budget = None if policy == "full" else 0.5
    with attach(model, policy, update_interval=8, budget=budget) as memory:
        cache = memory.new_cache()
        logits = read(model, IDS, cache)
        found = answer_log_likelihood(model, logits, cache, answer)
        assert cache.get_seq_length() == len(IDS)
        reply = generate_reply(model, TOKENIZER, logits, cache, 6)
        assert reply == replied(model, 6, cache=memory.new_cache())
        with torch.no_grad():
            whole = model(torch.tensor([IDS + answer]), cache=memory.new_cache()).logits[0]
    said = whole.log_softmax(-1)[len(IDS) - 1 : -1]
    expected = said.gather(1, torch.tensor(answer)[:, None]).mean()
    assert found == pytest.approx(float(expected), rel=1e-4)

import math
from dataclasses import fields

import pytest
import tiny
import torch
from transformers import DynamicCache

from transfer.adapters import scoring
from transfer.adapters.scoring import score_batch
from transfer.attachment.memory import attach
from transfer.errors import UserError
from transfer.namm.network import NAMM, NAMMConfig
from transfer.tasks.base import TokenBatch
from transfer.tasks.recall import TASKS, make_batch


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request):
    torch.manual_seed(1)
    model = getattr(tiny, request.param)()
    model.resize_token_embeddings(128, mean_resizing=False)
    return model


def batch(name="passkey", length=160, documents=5):
    return make_batch(TASKS[name], length, range(documents))


def directly(model, ids, answers):
    """One document, straight from the definition."""
    with torch.no_grad():
        logits = model(ids[None]).logits[0].double()
    each = logits.log_softmax(-1)
    likelihood = [each[at - 1, ids[at]].item() for at in range(1, len(ids))]
    groups, previous = [], False
    for at, answer in enumerate(answers.tolist()):
        if answer and not previous:
            groups.append([])
        if answer:
            groups[-1].append(at)
        previous = answer
    probability = [math.exp(sum(likelihood[at - 1] for at in group)) for group in groups]
    right = [all(logits[at - 1].argmax() == ids[at] for at in group) for group in groups]
    return (
        sum(probability) / len(groups),
        sum(right) / len(groups),
        sum(likelihood) / len(likelihood),
    )


def assert_same(one, other, rows=slice(None)):
    for field in fields(one):
        torch.testing.assert_close(
            getattr(one, field.name)[rows], getattr(other, field.name), rtol=2e-4, atol=1e-6
        )


@pytest.mark.parametrize("name", ["passkey", "recall"])
def test_against_the_definition(model, name):
    # a model of random weights is right where the document is changed to what it says
    documents = batch(name)
    ids = documents.ids.clone()
    for _ in range(4):
        with torch.no_grad():
            guesses = model(ids).logits.argmax(-1)
        ids[:3, 1:] = torch.where(documents.answers[:3, 1:], guesses[:3, :-1], ids[:3, 1:])
    forced = TokenBatch(ids, documents.answers)
    scores = score_batch(model, forced)
    for row in range(5):
        probability, correct, likelihood = directly(model, forced.ids[row], forced.answers[row])
        assert math.isclose(scores.answer_probability[row], probability, rel_tol=1e-4)
        assert scores.correct[row].item() == pytest.approx(correct)
        assert math.isclose(scores.log_likelihood[row], likelihood, rel_tol=1e-4)
    assert scores.correct.sum() > 0


def test_an_answer_is_right_only_as_a_whole():
    chosen = torch.log(torch.tensor([[0.5, 0.5, 0.25, 0.9, 0.8]]))
    best = torch.tensor([[True, True, False, True, True]])
    answers = torch.tensor([[False, True, True, False, True]])
    probability, correct = scoring._answered(chosen, best, answers)
    assert probability.item() == pytest.approx((0.5 * 0.25 + 0.8) / 2)
    assert correct.item() == 0.5


def test_documents_with_different_numbers_of_answers():
    chosen = torch.log(torch.tensor([[0.5, 0.1, 0.25], [0.5, 0.1, 0.3]]))
    best = torch.tensor([[True, False, True], [True, False, False]])
    answers = torch.tensor([[True, False, True], [False, False, True]])
    probability, correct = scoring._answered(chosen, best, answers)
    assert probability.tolist() == pytest.approx([0.375, 0.3])
    assert correct.tolist() == [1.0, 0.0]


def test_long_inputs_go_through_in_pieces(model, monkeypatch):
    documents = batch()
    whole = score_batch(model, documents)
    monkeypatch.setattr(scoring, "_LOGITS", 128 * 5 * 37)
    assert_same(score_batch(model, documents), whole)


def test_pieces_are_no_longer_than_the_limit(model, monkeypatch):
    seen = []

    def watch(module, arguments, output):
        seen.append(output.logits.numel())

    monkeypatch.setattr(scoring, "_LOGITS", 10_000)
    hook = model.register_forward_hook(watch)
    score_batch(model, batch(documents=2))
    hook.remove()
    assert max(seen) <= 10_000 and len(seen) == math.ceil(160 * 128 * 2 / (39 * 256))


def test_a_cache_given_is_used(model):
    cache = DynamicCache(config=model.config)
    scores = score_batch(model, batch(), cache)
    assert cache.get_seq_length() == 160
    assert_same(scores, score_batch(model, batch()))


def test_attached_full_policy_scores_as_the_model_alone(model):
    alone = score_batch(model, batch())
    with attach(model, "full", update_interval=32) as memory:
        assert_same(score_batch(model, batch(), memory.new_cache()), alone)


def namms(population):
    config = NAMMConfig(hidden=8, features="log")
    generator = torch.Generator().manual_seed(4)
    return NAMM(config, 0.4 * torch.randn(population, config.size, generator=generator))


def test_a_population_scores_as_its_members_one_by_one(model):
    members, documents = namms(3), batch(documents=4)
    with attach(model, members, update_interval=32, budget=24) as memory:
        together = score_batch(model, documents, memory.new_cache(), population=3)
    assert together.correct.shape == (3, 4)
    alone = []
    for vector in members.vector:
        member = NAMM(members.config, vector)
        with attach(model, member, update_interval=32, budget=24) as memory:
            alone.append(score_batch(model, documents, memory.new_cache()))
            assert_same(together, alone[-1], len(alone) - 1)
    differences = alone[0].log_likelihood - alone[1].log_likelihood
    assert differences.abs().max() > 1e-4


def test_a_population_of_one_keeps_its_axis(model):
    assert score_batch(model, batch(), population=1).correct.shape == (1, 5)


def test_a_prompt_longer_than_the_positions():
    model = tiny.gpt2()
    with pytest.raises(UserError, match="600 tokens is longer than the 512 positions of gpt2"):
        score_batch(model, batch(length=600))

"""A sequence's replies do not change with left padding, nor with its company in a batch."""

import pytest
import tiny
import torch

from transfer import NAMM, attach
from transfer.policies import POLICIES

PROMPTS = [70, 33, 64]
NEW = 24


def settings(name):
    if name == "namm":
        return {"policy": NAMM.from_pretrained("recall"), "update_interval": 16, "budget": 18}
    budget = None if name in ("full", "fastgen") else 18
    return {"policy": name, "update_interval": 20, "budget": budget}


def reply(model, memory, prompts, width):
    """Greedy tokens and their logits, prompts padded on the left to `width`."""
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    out = model.generate(
        ids,
        attention_mask=mask,
        cache=memory.new_cache(),
        max_new_tokens=NEW,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences[:, width:], torch.stack(out.logits, 1)


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"random"}))
def test_left_padding_and_company_change_no_reply(name):
    model = tiny.llama(layers=2).double()
    prompts = [torch.randint(3, 97, (length,)) for length in PROMPTS]
    with attach(model, **settings(name)) as memory:
        tokens, logits = reply(model, memory, prompts, max(PROMPTS) + 7)
        held = [layer.positions() for layer in memory.cache.pruned]
        for row, prompt in enumerate(prompts):
            for padding in (0, 1, 31):
                alone, own = reply(model, memory, [prompt], len(prompt) + padding)
                assert alone[0].tolist() == tokens[row].tolist()
                torch.testing.assert_close(own[0], logits[row], rtol=1e-4, atol=1e-4)
            shift = max(PROMPTS) + 7 - len(prompt) - padding
            for layer, positions in zip(memory.cache.pruned, held):
                for mine, batched in zip(layer.positions(), positions[row * 2 : row * 2 + 2]):
                    assert (mine + shift).tolist() == batched.tolist()


def test_random_draws_by_batch_but_not_by_padding():
    model, prompt = tiny.llama(layers=2), torch.randint(3, 97, (50,))
    kept = []
    for padding in (0, 9):
        with attach(model, "random", update_interval=20, budget=8) as memory:
            reply(model, memory, [prompt], 50 + padding)
            kept.append([p - padding for p in memory.cache.pruned[0].positions()])
    assert [p.tolist() for p in kept[0]] == [p.tolist() for p in kept[1]]


def test_beam_search_over_a_cache_that_keeps_everything_is_the_stock_one():
    model = tiny.llama(layers=2)
    ids = torch.randint(3, 97, (2, 40))
    mask = torch.ones_like(ids)
    mask[0, :9] = 0
    ask = {"attention_mask": mask, "num_beams": 3, "max_new_tokens": 30, "do_sample": False}
    expected = model.generate(ids, **ask)
    with attach(model, "full", update_interval=16) as memory:
        found = model.generate(ids, cache=memory.new_cache(), **ask)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["h2o", "recency"])
def test_a_beam_is_as_likely_as_the_same_tokens_read_in_one_call(name):
    model = tiny.llama(layers=2).double()
    ids = torch.randint(3, 97, (1, 60))
    with attach(model, name, update_interval=16, budget=12) as memory, torch.no_grad():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            cache=memory.new_cache(),
            num_beams=4,
            num_return_sequences=4,
            max_new_tokens=30,
            do_sample=False,
            length_penalty=0.0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        for tokens, score in zip(out.sequences[:, None], out.sequences_scores):
            logits = model(tokens[:, :-1], cache=memory.new_cache()).logits.log_softmax(-1)
            likely = logits.gather(2, tokens[:, 1:, None])[0, 59:, 0].sum()
            assert float(score) == pytest.approx(float(likely), abs=1e-4)

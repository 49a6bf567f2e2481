"""Pruned logits equal a dense forward with every token's visibility as an explicit mask."""

import itertools

import pytest
import tiny
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache import dense
from transfer.cache.cache import PrunedCache
from transfer.cache.policy import Pruning
from transfer.policies import get_policy
from transfer.policies.random import Random

N_UP, TOKENS = 32, 150
MODELS = {
    "llama-gqa": lambda: tiny.llama(kv_heads=2),
    "llama-mha": lambda: tiny.llama(kv_heads=8),
    "gpt2": tiny.gpt2,
}
CHUNKS = {
    "one-call": [TOKENS],
    "windows": [N_UP] * 4 + [22],
    "odd": [7, 50, 1, 1, 91],
    "one-by-one": [1] * TOKENS,
}
TOLERANCE = {torch.float64: 1e-6, torch.float32: 5e-5}


@pytest.fixture
def double_norm(monkeypatch):
    """Keep Llama's norm in the model's precision, which it otherwise leaves for float32."""

    def forward(self, x):
        return (
            self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        )

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


def prune(model, policy=None, update_interval=N_UP, **settings) -> Memory:
    pruning = Pruning(policy or tiny.Uneven(), update_interval, trace=True, **settings)
    return Memory(get_adapter(model), pruning)


@torch.no_grad()
def dense_logits(model, cache: PrunedCache, ids, valid=None, position_ids=None):
    """One forward over the whole sequence, each query seeing what it saw in the traced run."""
    dense.register()
    adapter = get_adapter(model)
    before = adapter.set_attention(dense.IMPLEMENTATION)
    for layer in cache.pruned:
        visible = dense.visibility(layer, ids.shape[1], valid)
        adapter.attention_modules[layer.index].transfer_visibility = visible
    # (Without a mask, transformers would take restarting positions for packed sequences.)
    mask = torch.ones_like(ids)
    logits = model(ids, attention_mask=mask, position_ids=position_ids, use_cache=False).logits
    for module in adapter.attention_modules:
        del module.transfer_visibility
    adapter.set_attention(before)
    return logits


@torch.no_grad()
def run_chunks(model, memory, ids, chunks):
    cache = memory.new_cache()
    pieces = ids.split(chunks, 1)
    return torch.cat([model(piece, cache=cache).logits for piece in pieces], 1)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("name", MODELS)
def test_forward_in_any_chunks_equals_masked_dense(name, chunks, dtype, double_norm):
    model = MODELS[name]().to(dtype)
    ids = torch.randint(3, 97, (2, TOKENS))
    with prune(model) as memory:
        logits = run_chunks(model, memory, ids, CHUNKS[chunks])
    reference = dense_logits(model, memory.cache, ids)
    assert (logits - reference).abs().max() <= TOLERANCE[dtype]
    lengths = memory.cache.kept()[0][0]
    assert len(set(lengths)) == len(lengths), "heads should differ in length"
    with torch.no_grad():
        assert (model(ids).logits - reference).abs().max() > 0.1, "nothing was evicted"


@pytest.mark.parametrize("eviction", ["exact", "reference"])
@pytest.mark.parametrize("budget", [None, 20, 0.25])
def test_budgets_and_evictions_stay_exact(eviction, budget, double_norm):
    model = tiny.llama().double()
    ids = torch.randint(3, 97, (2, TOKENS))
    with prune(model, budget=budget, eviction=eviction) as memory:
        logits = run_chunks(model, memory, ids, [TOKENS])
    assert (logits - dense_logits(model, memory.cache, ids)).abs().max() <= 1e-6


RULES = ["h2o", "h2o_age", "tova", "snapkv", "fastgen"]
#: Of rules that share their kind with one of these, or read no attention, two intervals will do.
CASES = [
    *itertools.product(RULES, [1, 7, 20, 100]),
    *itertools.product(["criticalkv", "expected_attention", "lagkv", "vatp"], [7, 100]),
]


@pytest.mark.parametrize(("name", "update_interval"), CASES)
def test_policies_that_read_attention_prune_at_any_interval(name, update_interval, double_norm):
    model = tiny.llama(layers=2).double()
    ids = torch.randint(3, 97, (2, TOKENS))
    policy, kept = get_policy(name), []
    for chunks in ([TOKENS], CHUNKS["odd"]):
        with prune(model, policy, update_interval, budget=18) as memory:
            logits = run_chunks(model, memory, ids, chunks)
        assert (logits - dense_logits(model, memory.cache, ids)).abs().max() <= 1e-6
        kept.append([[p.tolist() for p in layer.positions()] for layer in memory.cache.pruned])
    assert kept[0] == kept[1]
    late = TOKENS % update_interval
    assert memory.cache.kept() == [[[18 + late] * 2] * 2] * 2


@pytest.mark.parametrize("padding", [0, 37], ids=["unpadded", "left-padded"])
@pytest.mark.parametrize("chunk", [None, 40])
@pytest.mark.parametrize("name", MODELS)
def test_generate_equals_masked_dense(name, chunk, padding, double_norm):
    model = MODELS[name]().double()
    ids = torch.randint(3, 97, (2, TOKENS))
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    with prune(model) as memory:
        out = model.generate(
            ids,
            attention_mask=mask,
            cache=memory.new_cache(),
            max_new_tokens=60,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            **({"prefill_chunk_size": chunk} if chunk else {}),
        )
    seen = out.sequences[:, :-1]
    valid = torch.cat([mask, torch.ones(2, 59, dtype=torch.long)], 1)
    positions = (valid.cumsum(-1) - 1).clamp(min=0)
    reference = dense_logits(model, memory.cache, seen, valid.bool(), positions)[:, TOKENS - 1 :]
    logits = torch.stack(out.logits, 1).double()
    # generate() hands logits out in float32
    assert (logits - reference).abs().max() <= 1e-6 * reference.abs().max()
    assert (reference.argmax(-1) == out.sequences[:, TOKENS:]).all()
    assert all(
        int(p.min()) >= padding for layer in memory.cache.pruned for p in layer.positions()[:1]
    )


def test_batch_with_padding_beyond_a_whole_window_has_empty_heads_and_stays_exact(double_norm):
    model = tiny.llama().double()
    ids = torch.randint(3, 97, (2, 100))
    valid = torch.ones(2, 100, dtype=torch.bool)
    valid[0, :70] = False
    positions = (valid.long().cumsum(-1) - 1).clamp(min=0)
    with prune(model) as memory, torch.no_grad():
        cache = memory.new_cache()
        logits = model(ids, attention_mask=valid.long(), position_ids=positions, cache=cache).logits
    short, long = cache.pruned[0].kept_positions
    assert [seen for seen, _ in long] == [32, 64, 96]
    assert short == []
    error = (logits - dense_logits(model, cache, ids, valid, positions)).abs()
    assert error[valid].max() <= 1e-6
    assert torch.isfinite(logits).all()


def test_forward_without_any_cache_prunes_within_the_call(double_norm):
    model = tiny.llama().double()
    ids = torch.randint(3, 97, (2, TOKENS))
    with prune(model) as memory, torch.no_grad():
        cached = run_chunks(model, memory, ids, [TOKENS])
        assert (model(ids, use_cache=False).logits - cached).abs().max() <= 1e-12


@pytest.mark.parametrize("padding", [0, 9])
def test_stock_decision_transformer_forward_is_pruned_exactly(padding):
    model = tiny.decision_transformer().double()
    steps = 60
    inputs = {
        "states": torch.randn(2, steps, 11, dtype=torch.float64),
        "actions": torch.randn(2, steps, 3, dtype=torch.float64),
        "returns_to_go": torch.randn(2, steps, 1, dtype=torch.float64),
        "timesteps": torch.arange(steps).expand(2, -1),
        "attention_mask": torch.ones(2, steps, dtype=torch.long),
    }
    inputs["attention_mask"][0, :padding] = 0
    adapter = get_adapter(model)
    pruning = Pruning(tiny.Uneven(), N_UP, trace=True)
    with Memory(adapter, pruning), torch.no_grad():
        pruned = model(**inputs).action_preds
    # The same tokens through the encoder with a cache leave the trace to compare with.
    valid = inputs["attention_mask"].repeat_interleave(3, 1).bool()
    with Memory(adapter, pruning) as memory, torch.no_grad():
        cache = memory.new_cache()
        model.encoder(
            inputs_embeds=torch.randn(2, 3 * steps, 64, dtype=torch.float64),
            attention_mask=valid.long(),
            position_ids=torch.zeros(1, 3 * steps, dtype=torch.long),
            cache=cache,
            use_cache=True,
        )
    dense.register()
    adapter.set_attention(dense.IMPLEMENTATION)
    for layer in cache.pruned:
        module = adapter.attention_modules[layer.index]
        module.transfer_visibility = dense.visibility(layer, 3 * steps, valid)
    with torch.no_grad():
        masked = model(**inputs).action_preds
        adapter.set_attention("sdpa")
        full = model(**inputs).action_preds
    real = inputs["attention_mask"].bool()
    assert (pruned - masked)[real].abs().max() <= 1e-6
    assert (pruned - full)[real].abs().max() > 1e-3


def test_dropping_sequences_leaves_the_others_as_they_are(double_norm):
    model = tiny.llama().double()
    ids = torch.randint(3, 97, (3, TOKENS))

    def last(rows, memory, cache):
        return model(ids[rows, 100:], cache=cache).logits

    with prune(model) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids[:, :100], cache=cache)
        cache.batch_select_indices(torch.tensor([2, 0]))
        some = last([2, 0], memory, cache)
        whole = run_chunks(model, memory, ids, [100, 50])
    assert (some - whole[[2, 0], 100:]).abs().max() <= 1e-12


def test_random_policy_keeps_a_uniform_subset_and_stays_exact(double_norm):
    model = tiny.llama().double()
    ids = torch.randint(3, 97, (1, TOKENS))
    with prune(model, Random(), budget=16) as memory:
        logits = run_chunks(model, memory, ids, [64, 86])
    assert (logits - dense_logits(model, memory.cache, ids)).abs().max() <= 1e-6

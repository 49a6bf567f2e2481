"""Autocast, compiled models, and calls that ask for more than a pruned attention can give."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

from transfer import attach
from transfer.cache.attention import pruned_attention
from transfer.errors import UserError


@pytest.fixture
def ids():
    return torch.randint(3, 97, (2, 60))


def in_steps(model, cache, ids):
    parts = [ids[:, :40], *ids[:, 40:].split(1, 1)]
    return torch.cat([model(part, cache=cache, use_cache=True).logits for part in parts], 1)


@pytest.mark.parametrize("make", [tiny.llama, tiny.gpt2])
@torch.no_grad()
def test_autocast_gives_what_the_stock_model_gives_under_it(make, ids):
    model = make()
    with torch.autocast("cpu", torch.bfloat16):
        stock = model(ids, use_cache=False).logits.float()
        with attach(model, "full", n_up=16) as memory:
            ours = in_steps(model, memory.new_cache(), ids).float()
    exact = model(ids, use_cache=False).logits
    rounding = (stock - exact).square().mean().sqrt()
    assert (ours - stock).square().mean().sqrt() < 2 * rounding
    assert rounding < 0.1 * exact.square().mean().sqrt()


@torch.no_grad()
def test_policies_compute_in_their_own_precision_under_autocast(ids):
    model = tiny.llama()
    with torch.autocast("cpu", torch.bfloat16), attach(model, "h2o", n_up=16, budget=8) as memory:
        in_steps(model, memory.new_cache(), ids)
    assert memory.cache.pruned[0].store.state.dtype == torch.float32


@pytest.mark.parametrize("make", [tiny.llama, tiny.gpt2])
@torch.no_grad()
def test_attention_is_not_returned_but_refused_with_the_way_to_it(make, ids):
    model = make()
    with (
        attach(model, "full", n_up=16) as memory,
        pytest.raises(UserError, match=r"memory\.attention"),
    ):
        model(ids, cache=memory.new_cache(), output_attentions=True)


@pytest.mark.parametrize("name", ["position_bias", "block_indices", "indices", "sinks"])
def test_what_changes_the_attention_is_refused(name, ids):
    states = torch.randn(3, 1, 2, 4, 8)
    module = torch.nn.Module()
    with attach(tiny.llama(), "full", n_up=16) as memory:
        module.transfer_tie = memory.adapter.attention_modules[0].transfer_tie
        pruned_attention(module, *states, None)
        with pytest.raises(UserError, match="cannot be pruned"):
            pruned_attention(module, *states, None, **{name: torch.zeros(1)})
        with pytest.raises(UserError, match="later tokens"):
            pruned_attention(module, *states, None, is_causal=False)


COMPILED = """
import tiny, torch
from transfer import attach

model, ids = tiny.llama(layers=1), torch.randint(3, 97, (2, 60))
with torch.no_grad(), attach(model, "recency", n_up=16, budget=24) as memory:
    torch.compile(model, backend="eager")(ids, cache=memory.new_cache())
"""


@pytest.mark.slow
def test_a_compiled_model_is_refused():
    # By itself: the shape checks of the tests cannot be traced.
    folder = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", COMPILED]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode and "is not attached, is compiled, or changes keys" in ran.stderr

"""Record what kvpress scores on fixed random tensors: `fixtures/kvpress.safetensors`.

Run where kvpress is installed, which needs an older transformers than we do, from the repository's
root: `python tests/policies/record_kvpress.py` (version 0.5.5 made what is there). Queries
are projected and rotated by nothing and the output projection is the identity, as if a model handed
over the queries that it attended with: what a policy is told.
"""

import math
from pathlib import Path
from types import SimpleNamespace

import kvpress
import torch
from safetensors.torch import save_file

TOKENS, KV_HEADS, GROUPS, DIM = 48, 2, 2, 4
HEADS = KV_HEADS * GROUPS
#: Tokens that the presses with two stages or with budgets by layer are told to keep.
KEPT = 20
LAYERS, BETA = 6, 4


def module() -> SimpleNamespace:
    """An attention layer whose projections and rotations change nothing."""
    config = SimpleNamespace(
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=DIM,
        hidden_size=HEADS * DIM,
        num_hidden_layers=LAYERS,
    )
    return SimpleNamespace(
        config=config,
        head_dim=DIM,
        num_key_value_groups=GROUPS,
        layer_idx=0,
        q_proj=lambda states: states,
        o_proj=SimpleNamespace(weight=torch.eye(HEADS * DIM)),
        rotary_emb=lambda _, positions: unrotated(positions.shape[1]),
    )


def unrotated(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of the angle 0."""
    return torch.ones(1, tokens, DIM), torch.zeros(1, tokens, DIM)


def attention(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The causal attention of all queries, `[1, heads, tokens, tokens]`."""
    logits = query @ key.repeat_interleave(GROUPS, 1).mT / math.sqrt(DIM)
    future = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
    return logits.masked_fill(future, -torch.inf).softmax(-1)


def main() -> None:
    """Draw, score and save."""
    torch.manual_seed(17)
    query = torch.randn(1, HEADS, TOKENS, DIM)
    key, value = torch.randn(2, 1, KV_HEADS, TOKENS, DIM)
    # Keys with a common direction, values of uneven size, as models have them.
    key, value = key + 0.7, value * torch.rand(1, 1, TOKENS, 1) * 2
    ratio = 1 - KEPT / TOKENS
    snap = kvpress.SnapKVPress(ratio, window_size=8, kernel_size=5)
    presses = {
        "keydiff": kvpress.KeyDiffPress(ratio),
        "expected_attention": kvpress.ExpectedAttentionPress(ratio),
        "lagkv": kvpress.LagKVPress(ratio, lag_size=8),
        "snapkv": snap,
        "criticalkv": kvpress.CriticalKVPress(snap),
        "h2o_age": kvpress.ObservedAttentionPress(ratio),
        "l2_norm": kvpress.KnormPress(ratio),
        "tova": kvpress.TOVAPress(ratio),
    }
    hidden = query.transpose(1, 2).flatten(2)
    given = {"position_embeddings": unrotated(TOKENS)}
    rows = attention(query, key)
    found = {
        name: press.score(module(), hidden, key, value, rows if name == "h2o_age" else None, given)
        for name, press in presses.items()
    }
    layers = []
    for place in range(LAYERS):
        layer = module()
        layer.layer_idx = place
        pyramid = kvpress.PyramidKVPress(1 - 400 / 1000, window_size=8, beta=BETA)
        layers.append(pyramid.get_layer_budget(layer, 1000))
    found |= {"query": query, "key": key, "value": value, "pyramidkv": torch.tensor(layers)}
    place = Path(__file__).parent / "fixtures" / "kvpress.safetensors"
    save_file({name: each.contiguous() for name, each in found.items()}, place)


if __name__ == "__main__":
    main()

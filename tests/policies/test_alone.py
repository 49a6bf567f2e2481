"""Each head is scored as if it were alone: raggedness, padding and company change no score."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.cache.packed import PackedTokens
from transfer.cache.queries import Queries
from transfer.cache.window import AttentionWindow
from transfer.policies import POLICIES, get_policy

HEADS, GROUPS, DIM, VALUE_DIM, SCALE = 2, 2, 6, 5, 0.4
#: `random` draws for a whole batch, `tova` compares heads, and a NAMM has tests of its own.
RULES = sorted({*POLICIES.built_in} - {"namm", "random", "tova"})


def drawn(batch, seen, kept, missing, seed):
    """Queries, keys, values and which tokens are held: the newest, and a share of the others."""
    torch.manual_seed(seed)
    query = torch.randn(batch, HEADS * GROUPS, seen, DIM).double()
    key = torch.randn(batch, HEADS, seen, DIM).double() + 0.5
    value = torch.randn(batch, HEADS, seen, VALUE_DIM).double()
    held = torch.rand(batch, HEADS, seen) < kept
    held[..., -1] = True
    logits = (query @ key.repeat_interleave(GROUPS, 1).mT) * SCALE
    hidden = ~held.repeat_interleave(GROUPS, 1)[:, :, None] | torch.ones(seen, seen).triu(1).bool()
    lse = logits.masked_fill(hidden, -torch.inf).logsumexp(-1)
    # Rows that are all hidden, and rows before the first query, which hold anything.
    lse[lse.isneginf()] = torch.inf
    lse[:, :, :missing] = torch.inf
    return query, key, value, held, lse


def window(query, key, value, held, lse, first, budget):
    """A window over the tokens that are held."""
    batch, heads, seen = held.shape
    store = PackedTokens(key, value, 0, torch.float64, 3)
    store.append(key, value, [first] * batch, None)
    store.keep(held, key.new_zeros(batch, heads, seen, 0), 2)
    return AttentionWindow(
        store,
        Queries(query, lse, first, seen),
        layer=0,
        seen=first + seen,
        first=first,
        batch=batch,
        scale=SCALE,
        budget=torch.full((batch,), budget),
    )


def scores(policy, one):
    """Scores and state of each head's tokens, padding left out, sequence after sequence."""
    state = one.keys.new_zeros(*one.valid.shape, policy.state_size)
    found = zip(*(each.flatten(0, 1) for each in policy.score(one, policy.accumulate(one, state))))
    return [(each[real], own[real]) for (each, own), real in zip(found, one.valid.flatten(0, 1))]


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=12)
@given(
    seen=st.integers(70, 90),
    kept=st.sampled_from([0.05, 0.4, 1.0]),
    missing=st.sampled_from([0, 60]),
    first=st.sampled_from([0, 7]),
    budget=st.sampled_from([1, 5, 24]),
    seed=st.integers(0, 99),
)
def test_a_head_is_scored_as_if_alone(name, seen, kept, missing, first, budget, seed):
    policy = get_policy(name)
    parts = drawn(2, seen, kept, missing, seed)
    together = scores(policy, window(*parts, first, budget))
    for place, found in enumerate(together):
        b, head = divmod(place, HEADS)
        query, key, value, held, lse = parts
        own, group = slice(head, head + 1), slice(head * GROUPS, (head + 1) * GROUPS)
        alone = (query[b : b + 1, group], key[b : b + 1, own], value[b : b + 1, own],
                 held[b : b + 1, own], lse[b : b + 1, group])  # fmt: skip
        [expected] = scores(policy, window(*alone, first, budget))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=20)
@given(
    seen=st.integers(2, 40),
    kept=st.sampled_from([0.1, 0.6, 1.0]),
    missing=st.integers(0, 40),
    count=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_a_window_says_keys_values_and_moments_of_queries(seen, kept, missing, count, seed):
    missing, count = min(missing, seen), min(count, seen)
    query, key, value, held, lse = drawn(2, seen, kept, missing, seed)
    one = window(query, key, value, held, lse, 0, 5)
    mean, covariance = one.query_moments(count)
    for b, head in ((b, head) for b in range(2) for head in range(HEADS)):
        real = one.valid[b, head]
        for found, stored in ((one.keys, key), (one.values, value)):
            assert torch.equal(found[b, head][real], stored[b, head][held[b, head]])
            assert not found[b, head][~real].any()
        norms = value[b, head][held[b, head]].norm(dim=-1)
        torch.testing.assert_close(one.value_norms[b, head][real], norms)
        for group in range(GROUPS):
            came = lse[b, head * GROUPS + group, -count:].isfinite()
            own = query[b, head * GROUPS + group, -count:][came]
            if len(own):
                torch.testing.assert_close(mean[b, head, group], own.mean(0))
                torch.testing.assert_close(covariance[b, head, group], own.T.cov(correction=0))
            else:
                assert not mean[b, head, group].any() and not covariance[b, head, group].any()

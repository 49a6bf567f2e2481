"""Window features against the materialised formula: attention matrices, torch.stft, EMA."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.cache import window as window_module
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Policy, Pruning
from transfer.errors import UserError
from transfer.namm.features.spec import SPEC
from transfer.namm.spectrogram import HOP

GAMMA = 0.99


class Watch(tiny.Uneven):
    """Evicts unevenly and hands what the window says to `SEEN`."""

    reads_attention = True
    state_size = 17

    def looks_back(self, update_interval):
        return HOP + update_interval

    def score(self, window, state):
        state = SPEC.accumulate(window, state, GAMMA)
        SEEN.append(
            {
                "features": state,
                "sums": window.column_sums(),
                "matrix": window.matrix(),
                "positions": window.positions,
                "valid": window.valid,
                "age": window.age,
                "norms": window.key_norms,
            }
        )
        return super().score(window, state)[0], state


SEEN: list = []


class Materialised:
    """One head, the slow way: every attention row kept as a dictionary position -> value."""

    def __init__(self):
        self.keys, self.features, self.tail = {}, {}, {}

    def window(self, queries, keys, first, scale, groups):
        """queries [groups, n, d], keys [n, d]; returns per-position features, sums, matrix."""
        n = keys.shape[0]
        self.keys |= {first + i: keys[i] for i in range(n)}
        positions = sorted(self.keys)
        stacked = torch.stack([self.keys[p] for p in positions])
        scores = torch.einsum("gnd,td->gnt", queries, stacked) * scale
        future = torch.tensor(positions)[None] > (first + torch.arange(n))[:, None]
        matrix = scores.masked_fill(future, -torch.inf).softmax(-1)
        rows = matrix.mean(0)
        decay = GAMMA ** (HOP * torch.arange(n // HOP - 1, -1, -1).double()) * (1 - GAMMA**HOP)
        features = []
        for j, position in enumerate(positions):
            before = self.tail.get(position, torch.zeros(HOP).double())
            signal = torch.cat([before, rows[:, j]])
            spectrum = torch.stft(
                signal,
                n_fft=32,
                hop_length=HOP,
                window=torch.hann_window(32, dtype=torch.float64),
                center=False,
                return_complex=True,
            ).abs()
            old = self.features.get(position, torch.zeros(17).double())
            self.features[position] = old * GAMMA**n + spectrum @ decay
            self.tail[position] = rows[-HOP:, j]
            features.append(self.features[position])
        return positions, torch.stack(features), rows.sum(0), matrix

    def keep(self, positions):
        for kind in (self.keys, self.features, self.tail):
            for position in set(kind) - set(positions):
                del kind[position]


@settings(max_examples=25)
@given(
    update_interval=st.sampled_from([16, 32, 48]),
    groups=st.sampled_from([1, 2]),
    updates=st.integers(1, 5),
    cut=st.integers(1, 40),
    block=st.sampled_from([300, 2000, 1 << 18]),
    seed=st.integers(0, 100),
)
def test_everything_a_window_says_equals_the_materialised_formula(
    update_interval, groups, updates, cut, block, seed
):
    torch.manual_seed(seed)
    SEEN.clear()
    batch, kv_heads, dim, tokens = 2, 2, 8, update_interval * updates
    query = torch.randn(batch, kv_heads * groups, tokens, dim, dtype=torch.float64)
    key = torch.randn(batch, kv_heads, tokens, dim, dtype=torch.float64)
    layer = PrunedLayer(Pruning(Watch(), update_interval, trace=True), 0)
    usual = window_module.BLOCK
    try:
        window_module.BLOCK = block
        for q, k in zip(query.split(cut, 2), key.split(cut, 2)):
            layer.update(k, k)
            layer.attend(q, k, k, None, 0.35)
    finally:
        window_module.BLOCK = usual
    slow = [[Materialised() for _ in range(kv_heads)] for _ in range(batch)]
    assert len(SEEN) == updates
    for update, seen in enumerate(SEEN):
        at = slice(update * update_interval, (update + 1) * update_interval)
        for b in range(batch):
            for h in range(kv_heads):
                heads = slice(h * groups, (h + 1) * groups)
                positions, features, sums, matrix = slow[b][h].window(
                    query[b, heads, at], key[b, h, at], at.start, 0.35, groups
                )
                real = seen["valid"][b, h]
                assert seen["positions"][b, h][real].tolist() == positions
                assert seen["age"][b, h][real].tolist() == [at.stop - 1 - p for p in positions]
                close = {"rtol": 1e-10, "atol": 1e-10}
                torch.testing.assert_close(seen["features"][b, h][real], features, **close)
                torch.testing.assert_close(seen["sums"][b, h][real], sums, **close)
                ours = seen["matrix"][b, heads]
                torch.testing.assert_close(ours[..., real], matrix, **close)
                assert not ours[..., ~real].any()
                slow[b][h].keep(layer.kept_positions[b][update][1][h].tolist())


def test_what_a_policy_sees_of_a_sequence_does_not_change_with_padding_and_company():
    query, key = torch.randn(2, 2, 42, 8).double(), torch.randn(2, 2, 42, 8).double()
    padding, found = [[0, 1, 2, 5, 20, 21, 22, 40, 3, 4], [0, 7]], []
    valid = torch.ones(2, 42, dtype=torch.bool)
    for sequence, columns in enumerate(padding):
        valid[sequence, columns] = False
    for rows, mask in ((slice(0, 2), valid), (slice(0, 1), valid[:1]), (slice(0, 1), None)):
        SEEN.clear()
        layer = PrunedLayer(Pruning(Watch(), 32), 0)
        real = slice(None) if mask is not None else valid[0]
        q, k = query[rows][:, :, real], key[rows][:, :, real]
        layer.update(k, k)
        layer.attend(q, k, k, mask, 0.35)
        found.append(SEEN[0])
    for name in ("positions", "age", "features", "sums", "matrix"):
        for other in found[:2]:
            torch.testing.assert_close(other[name][:1], found[2][name])


def test_the_current_window_can_be_read_between_updates():
    query, key = torch.randn(1, 2, 40, 8), torch.randn(1, 2, 40, 8)
    layer = PrunedLayer(Pruning(tiny.Uneven(), 32, expose_attention=True), 0)
    layer.update(key, key)
    layer.attend(query, key, key, None, 0.35)
    matrix = layer.attention()
    assert matrix.shape == (1, 2, 8, layer.store.longest)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(1, 2, 8))


def test_a_layer_that_remembers_no_queries_says_so():
    key = torch.randn(1, 2, 40, 8)
    layer = PrunedLayer(Pruning(tiny.Uneven(), 32), 0)
    layer.update(key, key)
    layer.attend(key, key, key, None, 0.35)
    with pytest.raises(UserError, match="expose_attention=True"):
        layer.attention()


def test_policies_are_abstract():
    with pytest.raises(TypeError, match="score"):
        Policy()

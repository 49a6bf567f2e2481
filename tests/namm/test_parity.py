"""Numbers printed by the original implementation, replayed through this one.

Each fixture holds the queries and new keys of every update and which tokens survived it; the
replay computes attention from them with plain torch.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from transfer.namm import NAMMConfig
from transfer.namm.features.spec import SPEC
from transfer.namm.network import NAMM
from transfer.namm.original import import_original
from transfer.namm.recency import recency_embedding
from transfer.namm.scorers.bam import backward_attention
from transfer.namm.spectrogram import HOP, decay, ema_spectrogram
from transfer.namm.statistics import FeatureStatistics

DATA = Path(__file__).parents[1] / "data"
CASES = [0, 1, 2, 6]
PIECES = ["W_qkv", "b_qkv", "W_o", "b_o", "w_score", "b_score"]
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


class Update(NamedTuple):
    key: str
    attention: Tensor
    features: Tensor
    age: Tensor


def _load(case: int) -> tuple[dict[str, Tensor], dict]:
    with np.load(DATA / f"namm_case_{case}.npz") as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(str(arrays.pop("meta")))
    return {name: torch.from_numpy(value) for name, value in arrays.items()}, meta


def _namm(arrays: dict[str, Tensor]) -> NAMM:
    pieces = [arrays[f"p_{name}"].flatten() for name in PIECES if f"p_{name}" in arrays]
    config = NAMMConfig(hidden=len(arrays["p_W_o"]), bias="p_b_o" in arrays)
    mean, var = (arrays.get(f"norm_{name}", torch.ones(17)) for name in ("mean", "var"))
    return NAMM(config, torch.cat(pieces), mean, var.sqrt())


def _heads_attention(query: Tensor, key: Tensor) -> Tensor:
    """Causal softmax of the newest queries over cached and new keys, [query heads, n, tokens]."""
    new, tokens = query.shape[1], key.shape[1]
    groups = len(query) // len(key)
    logits = query @ key.repeat_interleave(groups, 0).mT / query.shape[-1] ** 0.5
    future = torch.ones(new, tokens, dtype=torch.bool).triu(tokens - new + 1)
    return logits.masked_fill(future, -torch.inf).softmax(-1)


def _replay(arrays: dict[str, Tensor], layer: int, updates: int) -> Iterator[Update]:
    key = carried = features = None
    for update in range(updates):
        name = f"u{update}_l{layer}_"
        query, new_key = arrays[name + "q"], arrays[name + "k_new"]
        heads, new = new_key.shape[:2]
        if key is None:
            key, carried, features = new_key[:, :0], new_key.new_zeros(heads, HOP, 0), None
        key = torch.cat([key, new_key], 1)
        by_head = _heads_attention(query, key)
        attention = by_head.unflatten(0, (heads, -1)).mean(1)
        carried = torch.cat([carried, carried.new_zeros(heads, HOP, new)], 2)
        rows = torch.cat([carried, attention], 1)
        spectrogram = ema_spectrogram(rows, 0.99)
        if features is not None:
            spectrogram[:, :-new] += decay(0.99, new) * features
        positions = arrays[name + "pos_in"].long()
        yield Update(name, by_head, spectrogram, positions[:, -1:] - positions)

        kept = arrays[name + "retained_idx"].long()
        assert torch.equal(positions.gather(1, kept), arrays[name + "pos_out"].long())
        key = key.gather(1, kept[..., None].expand(-1, -1, key.shape[-1]))
        carried = rows[:, -HOP:].gather(2, kept[:, None].expand(-1, HOP, -1))
        features = spectrogram.gather(1, kept[..., None].expand(-1, -1, 17))


def _updates(arrays: dict[str, Tensor], meta: dict) -> Iterator[Update]:
    for layer in range(meta["layers"]):
        yield from _replay(arrays, layer, meta["updates"])


@pytest.mark.parametrize("case", [*CASES, 7])
def test_features_across_updates_and_evictions(case):
    arrays, meta = _load(case)
    seen = 0
    for update in _updates(arrays, meta):
        if update.key + "attn" in arrays:
            torch.testing.assert_close(
                update.attention, arrays[update.key + "attn"], rtol=1e-5, atol=1e-6
            )
        torch.testing.assert_close(
            update.features, arrays[update.key + "ema"], rtol=1e-4, atol=1e-6
        )
        seen += 1
    assert seen == meta["layers"] * meta["updates"]


@pytest.mark.parametrize("case", CASES)
def test_what_the_scorer_reads(case):
    arrays, meta = _load(case)
    namm = _namm(arrays)
    seen = 0
    for update in _updates(arrays, meta):
        if update.key + "normed" not in arrays:
            continue
        inputs = namm.embed(update.features, update.age)
        torch.testing.assert_close(
            inputs[..., :8], arrays[update.key + "recency_emb"], rtol=0, atol=1e-7
        )
        torch.testing.assert_close(inputs[..., 8:], arrays[update.key + "normed"], **CLOSE)
        seen += 1
    assert seen == 3


def test_backward_attention():
    arrays, meta = _load(0)
    namm = _namm(arrays)
    assert torch.equal(namm.vector[0], arrays["params_flat"])
    parameters = namm._on(arrays["norm_mean"]).parameters
    for update in _replay(arrays, 0, meta["updates"]):
        inputs = namm.embed(update.features, update.age)
        out = backward_attention(inputs[None], parameters)[0]
        torch.testing.assert_close(out, arrays[update.key + "bam_out"], **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_scores_and_decisions(case):
    arrays, meta = _load(case)
    namm = _namm(arrays)
    for update in _updates(arrays, meta):
        scores = namm.score(update.features, update.age)
        # the original overwrites the newest token's score to protect it
        torch.testing.assert_close(scores[:, :-1], arrays[update.key + "scores"][:, :-1], **CLOSE)
        keep = scores >= 0
        keep[:, -1] = True
        assert torch.equal(keep, arrays[update.key + "above"])


def test_base_vector_without_biases():
    arrays, _ = _load(2)
    namm = _namm(arrays)
    assert namm.config == NAMMConfig(hidden=16, bias=False)
    assert torch.equal(namm.vector[0], arrays["params_flat"])


def test_running_statistics_at_full_cache():
    arrays, meta = _load(7)
    namm, statistics = _namm(arrays), FeatureStatistics(SPEC.width)
    replays = [_replay(arrays, layer, meta["updates"]) for layer in range(meta["layers"])]
    for updates in zip(*replays):
        for update in updates:
            statistics.add(update.features.flatten(0, 1))
            mean, var = (arrays[f"{update.key}run_{name}"] for name in ("mean", "var"))
            torch.testing.assert_close(statistics.mean.float(), mean, rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(statistics.var.float(), var, rtol=1e-4, atol=1e-9)
            assert arrays[update.key + "run_num"].tolist() == [statistics.count] * 17
            assert torch.equal(
                namm.score(update.features, update.age), torch.zeros(update.age.shape)
            )
            if update.key + "normed" in arrays:
                running = NAMM(namm.config, None, statistics.mean, statistics.std)
                values = running.embed(update.features, update.age)[..., 8:]
                torch.testing.assert_close(values, arrays[update.key + "normed"], **CLOSE)
    merged = "merged_token_embedding_0_output_"
    torch.testing.assert_close(
        statistics.mean.float(), arrays[merged + "mean"], rtol=1e-5, atol=1e-7
    )
    torch.testing.assert_close(statistics.var.float(), arrays[merged + "var"], rtol=1e-4, atol=1e-9)
    assert arrays[merged + "num"].tolist() == [statistics.count] * 17


def test_imported_checkpoint_scores_as_the_original():
    with np.load(DATA / "ckpt_hidden1_expect.npz") as file:
        attention, expected, mean = (
            torch.from_numpy(file[name]) for name in ("attn", "scores", "mean")
        )
    namm = import_original(DATA / "ckpt_hidden1.pt")
    assert torch.equal(namm.vector[0], mean)
    heads, _, tokens = attention.shape
    rows = torch.cat([attention.new_zeros(heads, HOP, tokens), attention], 1)
    age = torch.arange(tokens - 1, -1, -1).expand(heads, tokens)
    scores = namm.score(ema_spectrogram(rows, 0.99), age)
    torch.testing.assert_close(scores[:, :-1], expected[:, :-1], **CLOSE)
    assert torch.equal(scores[:, :-1] >= 0, expected[:, :-1] >= 0)


def test_recency_table_goes_on_beyond_the_original_s():
    ages = torch.tensor([0, 1, 32768, 1_000_000])
    frequencies = torch.tensor([50000 ** (-i / 4) for i in range(4)], dtype=torch.float64)
    angles = ages.double()[:, None] * frequencies
    table = torch.cat([angles.sin(), angles.cos()], -1).float()
    torch.testing.assert_close(recency_embedding(ages), table, rtol=0, atol=1e-7)

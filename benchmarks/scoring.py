"""Backward attention memory alone: exact, and with newer tokens sampled (`span`).

On features of a real model's attention, so that what sampling changes can be told: the shipped
NAMM reads llama-recall's first layer over a document of 16,384 tokens, many times as long as any
it learned from.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.measure import Row, side_by_side
from transfer.adapters.language_model import load_language_model
from transfer.adapters.memory import attach
from transfer.namm.network import NAMM
from transfer.tasks.recall import TASKS, make_batch

TITLE = "Scores of 8 heads; seconds (median, fastest, slowest)"
TOKENS, HEADS, SPAN, REPEATS, KEPT = (1024, 4096, 16384), 8, 1024, 3, 0.25


class _Spy(NAMM):
    """Takes down what it is asked to score."""

    seen: tuple[Tensor, Tensor] | None = None

    def score(
        self,
        features: Float[Tensor, "sequences tokens 17"],
        age: Int[Tensor, "sequences tokens"],
        span: int | None = None,
    ) -> Float[Tensor, "sequences tokens"]:
        self.seen = self.seen or (features, age)
        return features.new_zeros(features.shape[:2])


def run() -> list[Row]:
    """One row a number of tokens."""
    return [row(tokens) for tokens in TOKENS]


def row(tokens: int) -> Row:
    """Exact and sampled, and what sampling changes."""
    namm = NAMM.from_pretrained("recall")
    features, age = real_features(namm, tokens)
    prepared = {
        "exact": lambda: lambda: namm.score(features, age),
        "sampled": lambda: lambda: namm.score(features, age, SPAN),
    }
    times = side_by_side(prepared, REPEATS)
    exact, sampled = namm.score(features, age), namm.score(features, age, SPAN)
    lost = best(exact) & ~best(sampled)
    return {
        "tokens": tokens,
        "exact s": str(times["exact"]),
        f"span {SPAN} s": str(times["sampled"]),
        "exact / sampled": round(times["exact"].median / times["sampled"].median, 2),
        "rms error / std": f"{float((exact - sampled).square().mean().sqrt() / exact.std()):.4f}",
        "sign differs": f"{float(((exact >= 0) != (sampled >= 0)).float().mean()):.2%}",
        f"best {KEPT:.0%} differs": f"{float(lost.sum() / best(exact).sum()):.2%}",
    }


def best(scores: Float[Tensor, "heads tokens"]) -> Tensor:
    """Which tokens a budget would keep."""
    top = scores.topk(int(KEPT * scores.shape[-1]), -1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, top, True)


def real_features(namm: NAMM, tokens: int) -> tuple[Tensor, Tensor]:
    """Features and ages of `HEADS` heads: the first layer's, of several documents."""
    model = load_language_model("llama-recall").model
    documents = HEADS // model.config.num_key_value_heads
    ids = make_batch(TASKS["recall"], tokens, range(documents)).ids[:, :tokens]
    spy = _Spy(namm.config, namm.vector, namm.mean, namm.std)
    with attach(model, spy, n_up=tokens) as memory, torch.no_grad():
        model(ids, cache=memory.new_cache(), logits_to_keep=1)
    assert spy.seen is not None
    return spy.seen

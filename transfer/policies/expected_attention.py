"""What queries to come can be expected to attend to (Expected Attention, arXiv 2510.00636)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.arguments import check_fields
from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError
from transfer.policies.sinks import check_sinks, sinks_first


@dataclass(frozen=True)
class ExpectedAttention(Policy):
    """Keeps the tokens that a Gaussian fitted to the newest queries attends to, by value norm.

    For queries of mean m and covariance C and the scale s of the logits, a query head expects of
    token i the weight `z_i = E[exp(s q.k_i)] = exp(s m.k_i + s^2/2 k_i.C k_i)`. The score is the
    mean over the query heads of a KV head of `z_i / sum_j z_j`, times `|v_i|_2`. Sinks take no part
    in the sum and stay.

    The paper takes the statistics before queries are rotated to their positions, and rotates them
    by the mean rotation over the next 512. A policy knows no rotation: here they are those of the
    newest queries as they attended, the next ones being expected where the newest are. The value
    norm is without the output projection, as in kvpress.

    Args:
        observe: newest queries the statistics are of.
        sinks: first tokens that always stay, within the budget.
    """

    observe: int = 64
    sinks: int = 4

    name: ClassVar[str] = "expected_attention"
    reads_attention: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_sinks(self.name, self.sinks)
        if self.observe < 1:
            raise UserError(
                f"expected_attention cannot observe {self.observe} queries; use 1 or more"
            )

    def looks_back(self, update_interval: int) -> int:
        """The queries that statistics are of."""
        return self.observe

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """Expected attention times value norm; the sinks come before all others."""
        expected = self.expected(window) * window.value_norms
        return sinks_first(expected, window, self.sinks), state

    def expected(self, window: AttentionWindow) -> Float[Tensor, "batch kv_heads tokens"]:
        """Expected attention of each token but the sinks, the mean over the group's query heads."""
        keys = window.keys * window.scale
        mean, covariance = window.query_moments(self.observe)
        sinks = window.positions - window.first < self.sinks
        # Not -inf: there may be nothing but sinks.
        least, outside = torch.finfo(keys.dtype).min, sinks | ~window.valid
        shares = []
        # One query head of each group at a time: keys of a long cache are large.
        for m, c in zip(mean.unbind(2), covariance.unbind(2)):
            logits = (keys @ m[..., None])[..., 0] + ((keys @ c) * keys).sum(-1) / 2
            shares.append(logits.masked_fill(outside, least).softmax(-1))
        return torch.stack(shares).mean(0)

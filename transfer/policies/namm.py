"""The evolved network as a policy (paper section 3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.arguments import check_fields
from transfer.cache.codes import SLOWEST
from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError
from transfer.keys import unlikeness
from transfer.namm.network import NAMM

#: Uneven heads up to this many tokens are scored in one batch.
SHORT = 512


@dataclass(frozen=True)
class NAMMPolicy(Policy):
    """Scores tokens with one NAMM, the same for every layer and head; negative scores leave.

    Args:
        namm: its parameters may have a population axis; candidate p then scores the p-th equal
            share of the batch.
        state: how what the NAMM keeps of a token is stored; float: 4 bytes a number, 2 where the
            model is of half precision. byte: one.

    Raises:
        UserError: bytes are asked for, and the NAMM keeps what does not fit into them.
    """

    namm: NAMM
    state: Literal["float", "byte"] = field(default="float", kw_only=True)

    name: ClassVar[str] = "namm"
    reads_attention: ClassVar[bool] = True
    threshold: ClassVar[float | None] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        feature, gamma = self.namm.feature, self.namm.config.gamma
        for name in ("state_size", "half_state", "multiple_of"):
            object.__setattr__(self, name, getattr(feature, name))
        object.__setattr__(self, "byte_state", self.state == "byte")
        if self.byte_state and not (feature.byte_state and gamma <= SLOWEST):
            raise UserError(
                f"what a NAMM of {self.namm.config.features} and gamma {gamma} keeps does not fit "
                "into bytes; use state float"
            )

    def identity(self) -> Mapping[str, Any]:
        """The NAMM, by all that it holds, and how what it keeps is stored."""
        return {"namm": self.namm.digest(), "state": self.state}

    def looks_back(self, update_interval: int) -> int:
        """As far as the NAMM's feature does."""
        return self.namm.feature.looks_back

    def accumulate(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> Float[Tensor, "batch kv_heads tokens size"]:
        """The state is the NAMM's feature of each token."""
        return self.namm.feature.accumulate(window, state, self.namm.config.gamma)

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens size"]]:
        """Scores of the NAMM."""
        lengths = window.lengths
        alike = max(lengths) <= SHORT or min(lengths) == max(lengths)
        # On a GPU many launches cost more than padding.
        told = self.told(window, state)
        if self.namm.population > 1 or alike or not state.is_cpu:
            return self.namm.score(**told).view(state.shape[:3]), state
        return self._row_by_row(told, lengths).view(state.shape[:3]), state

    def told(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> dict[str, Tensor]:
        """The arguments of `NAMM.score`, a row for each head of each sequence."""
        told = {
            "features": state,
            "age": window.age,
            "index": window.positions - window.first,
            "valid": window.valid,
        }
        if self.namm.feature.reads_norms:
            told["norms"] = torch.stack([window.key_norms, window.value_norms], -1)
        if self.namm.feature.reads_unlike:
            told["unlike"] = unlikeness(window.keys)
        return {name: tensor.flatten(0, 1) for name, tensor in told.items()}

    def _row_by_row(
        self, told: dict[str, Tensor], lengths: list[int]
    ) -> Float[Tensor, "rows tokens"]:
        """Quadratic in each head's own length, not in that of the longest."""
        rows, tokens = told["age"].shape
        scores = told["features"].new_zeros(rows, tokens)
        for row, length in enumerate(lengths):
            own = slice(row, row + 1), slice(tokens - length, None)
            if length:
                scores[own] = self.namm.score(**{name: x[own] for name, x in told.items()})
        return scores

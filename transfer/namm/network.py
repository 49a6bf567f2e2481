"""The NAMM: spectrogram features and ages in, one score a token out.

The same few thousand parameters score every layer, every head and every model; nothing here
depends on which.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfer.errors import UserError, unknown_name
from transfer.namm.bam import bam_scores, bam_shapes
from transfer.namm.features import (
    FEATURE_KINDS,
    WIDTH,
    FeatureStatistics,
    normalised,
    recency_embedding,
    transformed,
)
from transfer.namm.mlp import mlp_scores, mlp_shapes
from transfer.namm.parameters import Shapes, count, split
from transfer.namm.spectrogram import BINS

__all__ = ["NAMM", "FeatureStatistics", "NAMMConfig", "recency_embedding"]

_SCORERS = {"bam": (bam_shapes, bam_scores), "mlp": (mlp_shapes, mlp_scores)}


@dataclass(frozen=True)
class NAMMConfig:
    """What a parameter vector means.

    Args:
        features: `spec` standardises the spectrogram's magnitudes, `log` their logarithms.
        scorer: `bam`, backward attention memory, or `mlp`, no attention between tokens.
        hidden: width of the scorer.
        bias: whether the scorer's inner layers have biases (the score always has one).
        gamma: decay of the spectrogram a query.

    Raises:
        UserError: a field has an unknown name or a value out of range.
    """

    features: str = "spec"
    scorer: str = "bam"
    hidden: int = 32
    bias: bool = True
    gamma: float = 0.99

    def __post_init__(self) -> None:
        if self.features not in FEATURE_KINDS:
            raise unknown_name("NAMM features", self.features, FEATURE_KINDS)
        if self.scorer not in _SCORERS:
            raise unknown_name("NAMM scorer", self.scorer, _SCORERS)
        if self.hidden < 1:
            raise UserError(f"NAMM hidden width {self.hidden}: use a whole number from 1 up")
        if not 0 < self.gamma < 1:
            raise UserError(f"NAMM gamma {self.gamma}: use a number between 0 and 1, as 0.99")

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of the pieces of the flat vector, in order."""
        return _SCORERS[self.scorer][0](WIDTH, self.hidden, self.bias)

    @property
    def size(self) -> int:
        """Length of the flat vector: 4172 for the default, the published NAMM."""
        return count(self.shapes)


class NAMM:
    """An evolved scorer, or a population of them. Not to be changed once made.

    Args:
        config: what the vector means.
        vector: flat parameters, [params] or [population, params]; zeros by default, under which
            every score is 0 and everything is kept.
        mean: mean of each of the 17 bins of the (transformed) spectrogram; zeros by default.
        std: their standard deviation; ones by default.

    Raises:
        UserError: a length does not fit the configuration, or a number is not finite.
    """

    def __init__(
        self,
        config: NAMMConfig,
        vector: Float[Tensor, "*population params"] | None = None,
        mean: Float[Tensor, "_"] | None = None,
        std: Float[Tensor, "_"] | None = None,
    ) -> None:
        self.config = config
        self.vector = torch.zeros(1, config.size) if vector is None else _plain(vector)
        self.vector = torch.atleast_2d(self.vector)
        self.mean = torch.zeros(BINS) if mean is None else _plain(mean)
        self.std = torch.ones(BINS) if std is None else _plain(std)
        self._check()
        self._cast: dict[tuple[torch.device, torch.dtype], _Cast] = {}

    def _check(self) -> None:
        wanted = {"vector": (self.population, self.config.size), "mean": (BINS,), "std": (BINS,)}
        for name, shape in wanted.items():
            tensor = getattr(self, name)
            if tensor.shape != shape:
                raise UserError(
                    f"the NAMM's {name} has {tensor.shape[-1]} numbers, its configuration needs "
                    f"{shape[-1]}; use the numbers and the configuration of one NAMM"
                )
            if not tensor.isfinite().all():
                raise UserError(
                    f"the NAMM's {name} holds NaN or infinity; take an earlier generation or "
                    "download it again"
                )

    @property
    def population(self) -> int:
        """How many members the vector holds."""
        return len(self.vector)

    def with_vector(self, vector: Float[Tensor, "*population params"]) -> "NAMM":
        """The same configuration and statistics with other parameters."""
        return NAMM(self.config, vector, self.mean, self.std)

    def embed(
        self,
        features: Float[Tensor, "sequences tokens 17"],
        age: Int[Tensor, "sequences tokens"],
    ) -> Float[Tensor, "sequences tokens 25"]:
        """What the scorer reads: the ages' embedding, then the normalised features."""
        cast = self._on(features)
        values = normalised(
            transformed(features.to(cast.dtype), self.config.features), cast.mean, cast.std
        )
        return torch.cat([recency_embedding(age, cast.dtype), values], -1)

    def score(
        self,
        features: Float[Tensor, "sequences tokens 17"],
        age: Int[Tensor, "sequences tokens"],
    ) -> Float[Tensor, "sequences tokens"]:
        """Score every token of every sequence; a token below 0 is not worth keeping.

        Args:
            features: EMA spectrograms, newest token last. Shorter sequences are padded on the
                left with anything finite; padding influences no real token.
            age: tokens since each token was seen, 0 for the newest.

        With a population, each member scores an equal share of the sequences, in order. The
        inputs may be on any device; the parameters are copied there once.

        Raises:
            ValueError: the sequences do not divide into the population.
        """
        sequences = len(features)
        if sequences % self.population:
            raise ValueError(f"{sequences} sequences for a population of {self.population}")
        inputs = self.embed(features, age)
        members = inputs.unflatten(0, (self.population, sequences // self.population))
        return _SCORERS[self.config.scorer][1](members, self._on(features).parameters).flatten(0, 1)

    def _on(self, features: Tensor) -> "_Cast":
        dtype = torch.promote_types(features.dtype, torch.float32)
        key = features.device, dtype
        if key not in self._cast:
            vector, mean, std = (x.to(*key) for x in (self.vector, self.mean, self.std))
            self._cast[key] = _Cast(dtype, split(vector, self.config.shapes), mean, std)
        return self._cast[key]

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "NAMM":
        """Load a shipped NAMM by name, one from a local folder, or one from the Hugging Face Hub.

        Raises:
            UserError: there is none, or its files are damaged.
        """
        from transfer.namm.checkpoint import load_namm

        return load_namm(name)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `namm.safetensors` into `folder`."""
        from transfer.namm.checkpoint import save_namm

        save_namm(self, folder)

    def push_to_hub(self, repo_id: str) -> str:
        """Upload to the Hugging Face Hub and return the page's address.

        Raises:
            UserError: the hub refuses or cannot be reached.
        """
        from transfer.namm.checkpoint import push_to_hub

        return push_to_hub(self, repo_id)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32)


@dataclass(frozen=True)
class _Cast:
    dtype: torch.dtype
    parameters: dict[str, Tensor]
    mean: Tensor
    std: Tensor

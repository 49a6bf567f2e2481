"""The NAMM: features of the attention and ages in, one score a token out.

The same few thousand parameters score every layer, every head and every model; nothing here
depends on which.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.files import content_digest
from transfer.namm.checkpoint import push_namm, read_namm, save_namm
from transfer.namm.config import NAMMConfig
from transfer.namm.features import Tokens
from transfer.namm.features.joined import get_feature
from transfer.namm.recency import recency_embedding
from transfer.namm.scorers import Scorer, split
from transfer.namm.statistics import normalised
from transfer.plugins import SCORERS

__all__ = ["NAMM", "NAMMConfig"]


class NAMM:
    """An evolved scorer, or a population of them. Not to be changed once made.

    Attributes:
        feature: what is kept with every token, and read.
        card: what there is to say of it, in Markdown; None: nothing.

    Args:
        config: what the vector means.
        vector: flat parameters, [params] or [population, params]; zeros by default, under which
            every score is 0 and everything is kept.
        mean: mean of each number of the (transformed) feature; zeros by default.
        std: their standard deviation; ones by default.
        card: travels with it to folders and to the Hub.

    Raises:
        UserError: a length does not fit the configuration, or a number is not finite.
    """

    @typed
    def __init__(
        self,
        config: NAMMConfig,
        vector: Float[Tensor, "*population params"] | None = None,
        mean: Float[Tensor, "_"] | None = None,
        std: Float[Tensor, "_"] | None = None,
        card: str | None = None,
    ) -> None:
        self.config = config
        self.card = card
        self.feature = get_feature(config.features)
        self._scorer: Scorer = SCORERS.get(config.scorer)
        width = self.feature.width
        self.vector = torch.zeros(1, config.size) if vector is None else _plain(vector)
        self.vector = torch.atleast_2d(self.vector)
        self.mean = torch.zeros(width) if mean is None else _plain(mean)
        self.std = torch.ones(width) if std is None else _plain(std)
        self._check()
        self._cast: dict[tuple[torch.device, torch.dtype], _Cast] = {}

    def _check(self) -> None:
        width = (self.feature.width,)
        if not self.population:
            raise UserError("the NAMM's vector has no member; give one row or more")
        wanted = {"vector": (self.population, self.config.size), "mean": width, "std": width}
        for name, shape in wanted.items():
            tensor = self.tensors[name]
            if tensor.shape != shape:
                axes = tensor.shape[-1:] if tensor.shape[:-1] == shape[:-1] else tensor.shape
                raise UserError(
                    f"the NAMM's {name} has {' x '.join(map(str, axes)) or 1} numbers, its "
                    f"configuration needs {shape[-1]}; use the numbers and the configuration of "
                    "one NAMM"
                )
            if name == "std" and (tensor < 0).any():
                raise UserError("the NAMM's std holds a negative number; make or download it again")
            if not tensor.isfinite().all():
                raise UserError(
                    f"the NAMM's {name} holds NaN or infinity; take an earlier generation or "
                    "download it again"
                )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All its numbers."""
        return {"vector": self.vector, "mean": self.mean, "std": self.std}

    @property
    def population(self) -> int:
        """How many members the vector holds."""
        return len(self.vector)

    def digest(self) -> str:
        """Of the configuration and all numbers: what is alike in two NAMMs that are one."""
        numbers = [tensor.tolist() for tensor in (self.vector, self.mean, self.std)]
        return content_digest([asdict(self.config), numbers])

    def read(
        self,
        features: Float[Tensor, "sequences tokens size"],
        age: Int[Tensor, "sequences tokens"],
        index: Int[Tensor, "sequences tokens"] | None = None,
        valid: Bool[Tensor, "sequences tokens"] | None = None,
        norms: Float[Tensor, "sequences tokens 2"] | None = None,
        unlike: Float[Tensor, "sequences tokens"] | None = None,
    ) -> Float[Tensor, "sequences tokens width"]:
        """What the feature makes of the tokens, before it is normalised; see `score`."""
        if norms is None and self.feature.reads_norms:
            raise ValueError(f"features {self.config.features} need the norms of keys and values")
        if unlike is None and self.feature.reads_unlike:
            raise ValueError(f"features {self.config.features} need the keys' unlikeness")
        index = age[:, :1] - age if index is None else index
        valid = torch.ones_like(age, dtype=torch.bool) if valid is None else valid
        tokens = Tokens(features, age, index, valid, norms, self.config.gamma, unlike)
        return self.feature.read(tokens)

    def embed(
        self,
        features: Float[Tensor, "sequences tokens size"],
        age: Int[Tensor, "sequences tokens"],
        **told: Tensor,
    ) -> Float[Tensor, "sequences tokens width"]:
        """What the scorer reads: the ages' embedding, then the normalised features."""
        cast = self._on(features)
        values = self.read(features.to(cast.dtype), age, **told)
        values = normalised(values, cast.mean, cast.std)
        return torch.cat([recency_embedding(age, cast.dtype), values], -1)

    def score(
        self,
        features: Float[Tensor, "sequences tokens size"],
        age: Int[Tensor, "sequences tokens"],
        **told: Tensor,
    ) -> Float[Tensor, "sequences tokens"]:
        """Score every token of every sequence; a token below 0 is not worth keeping.

        Args:
            features: what `feature` keeps, newest token last. Shorter sequences are padded on the
                left with anything finite; padding influences no real token.
            age: tokens since each token was seen, 0 for the newest.
            told: what some features read beside, a row a sequence too. `index` of each token in its
                sequence, by default from the oldest one given; `valid`, False at padding, by
                default all True; `norms` of key and value, `[sequences, tokens, 2]`; `unlike`, how
                each key differs from the others (`transfer.keys.unlikeness`).

        With a population, each member scores an equal share of the sequences, in order. The
        inputs may be on any device; the parameters are copied there once.

        Raises:
            ValueError: the sequences do not divide into the population, or norms are missing.
        """
        sequences = len(features)
        if sequences % self.population:
            raise ValueError(f"{sequences} sequences for a population of {self.population}")
        inputs = self.embed(features, age, **told)
        members = inputs.unflatten(0, (self.population, sequences // self.population))
        return self._scorer.scores(members, self._on(features).parameters).flatten(0, 1)

    def scored(
        self, inputs: Float[Tensor, "sequences tokens width"], vector: Float[Tensor, "1 params"]
    ) -> Float[Tensor, "sequences tokens"]:
        """What `embed` gave, scored with other parameters, which may ask for their gradient."""
        return self._scorer.scores(inputs[None], split(vector, self.config.shapes))[0]

    def _on(self, features: Tensor) -> "_Cast":
        dtype = torch.promote_types(features.dtype, torch.float32)
        key = features.device, dtype
        if key not in self._cast:
            vector, mean, std = (x.to(*key) for x in (self.vector, self.mean, self.std))
            self._cast[key] = _Cast(dtype, split(vector, self.config.shapes), mean, std)
        return self._cast[key]

    @classmethod
    @typed
    def from_pretrained(cls, name: str | Path) -> "NAMM":
        """Load a shipped NAMM by name, one from a local folder, or one from the Hugging Face Hub.

        Raises:
            UserError: there is none, or its files are damaged.
        """
        config, tensors, card = read_namm(name)
        try:
            return cls(config, **tensors, card=card)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error

    @typed
    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json`, `namm.safetensors` and, where there is a card, `CARD.md`."""
        save_namm(self.config, self.tensors, self.card, folder)

    @typed
    def push_to_hub(self, repo_id: str) -> str:
        """Upload to the Hugging Face Hub, with the card or a plain one; return the page's address.

        Raises:
            UserError: the hub refuses or cannot be reached.
        """
        return push_namm(self.config, self.tensors, self.card, repo_id)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32)


@dataclass(frozen=True)
class _Cast:
    dtype: torch.dtype
    parameters: dict[str, Tensor]
    mean: Tensor
    std: Tensor

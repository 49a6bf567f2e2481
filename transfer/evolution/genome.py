"""From search vectors to NAMMs."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64

from transfer.namm.network import NAMM, NAMMConfig
from transfer.namm.scorers.base import split
from transfer.plugins import SCORERS

_GAMMA_RANGE = math.log(10)


@dataclass(frozen=True)
class Genome:
    """What the numbers of a search vector mean: a NAMM's parameters, and its decay if searched.

    Attributes:
        config: of the NAMM; its gamma is where a searched decay starts.
        mean, std: feature statistics.
        evolve_gamma: the last number z of a vector is the decay: the odds gamma / (1 - gamma) are
            those of `config.gamma` times 10 ** tanh(z).
    """

    config: NAMMConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    evolve_gamma: bool = False

    @classmethod
    def of(cls, namm: NAMM, evolve_gamma: bool) -> "Genome":
        """The genome of a NAMM's relatives."""
        return cls(namm.config, tuple(namm.mean.tolist()), tuple(namm.std.tolist()), evolve_gamma)

    @property
    def size(self) -> int:
        """Numbers in a search vector."""
        return self.config.size + self.evolve_gamma

    @property
    def together(self) -> bool:
        """Whether candidates can share a forward pass: the decay is one of a whole pass."""
        return not self.evolve_gamma

    def start(self) -> NAMM:
        """The NAMM of zeros, which keeps everything."""
        return NAMM(self.config, None, torch.tensor(self.mean), torch.tensor(self.std))

    def uphill(self) -> NAMM:
        """The same with inner weights drawn at random: between zeros no slope leads anywhere."""
        namm, shapes = self.start(), self.config.shapes
        pieces, generator = split(namm.vector, shapes), torch.Generator().manual_seed(0)
        for name in SCORERS.get(self.config.scorer).inner:
            pieces[name].normal_(0, shapes[name][0] ** -0.5, generator=generator)
        return namm

    def vector(self, namm: NAMM) -> Float64[np.ndarray, " size"]:
        """The search vector of a NAMM of this configuration."""
        return np.append(namm.vector[0].double().numpy(), [0.0] * self.evolve_gamma)

    def namm(self, vectors: Float[np.ndarray, "population size"]) -> NAMM:
        """The NAMM of some vectors; of one vector only if the decay is searched."""
        exact = vectors.astype(np.float32)
        config = self.config
        if self.evolve_gamma:
            [z] = exact[:, -1].tolist()
            config = replace(config, gamma=_moved(config.gamma, z))
        parameters = torch.from_numpy(exact[:, : config.size].copy())
        return NAMM(config, parameters, torch.tensor(self.mean), torch.tensor(self.std))


def _moved(gamma: float, z: float) -> float:
    odds = math.log(gamma / (1 - gamma)) + _GAMMA_RANGE * math.tanh(z)
    return 1 / (1 + math.exp(-odds))

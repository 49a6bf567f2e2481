"""Searches over flat parameter vectors: `ask` for a population, `tell` its fitness.

What is asked next depends on the start, the settings and the fitnesses told so far, and on nothing
else (no global random state). So a search is resumed by asking and telling again what a ledger
holds, and no state is ever written to disk.
"""

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from transfer.arguments import check_fields
from transfer.errors import HUGE, UserError, unknown_name

_MOST_CANDIDATES = 10_000
Vector = Float64[np.ndarray, " params"]
Population = Float64[np.ndarray, "population params"]
Fitness = Float64[np.ndarray, " population"]


@dataclass(frozen=True)
class SearchSettings:
    """What every search is told.

    Args:
        population: candidates a generation.
        sigma: standard deviation of the first population around the start.
        elite: share of the population that the next mean is made of.
        seed: of all random numbers.

    Raises:
        UserError: a setting is out of range.
    """

    population: int = 32
    sigma: float = 0.065
    elite: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.population < 2:
            raise UserError(
                f"a population of {self.population} has nothing to choose from; use 2 or more"
            )
        if self.population > _MOST_CANDIDATES:
            raise UserError(
                f"a population of {self.population} is too large; use at most {_MOST_CANDIDATES:,}"
            )
        if not 0 < self.sigma <= HUGE:
            raise UserError(f"sigma {self.sigma}: use a positive number, as 0.065")
        if not 0 < self.elite <= 1:
            raise UserError(f"elite share {self.elite}: use a number above 0 and up to 1, as 0.5")

    @property
    def parents(self) -> int:
        """Candidates that the next mean is made of (mu)."""
        return max(1, int(self.population * self.elite))


@runtime_checkable
class Search(Protocol):
    """An ask-and-tell search that maximises."""

    @property
    def mean(self) -> Vector:
        """The search's best guess."""
        ...

    @property
    def sigma(self) -> float:
        """Its present step size."""
        ...

    def ask(self) -> Population:
        """The candidates of the next generation."""
        ...

    def tell(self, fitness: Fitness) -> None:
        """The fitness of the candidates asked last, all finite; higher is better."""
        ...


class Covariance:
    """CMA-ES by pycma.

    With a diagonal covariance the variances of single parameters are learned, and pycma adapts the
    step size by two-point adaptation. The full covariance is the paper's setting: active weights
    and cumulative step-size adaptation, with the constants of pycma, which are the paper's up to
    c_mu (3% larger). At 4172 parameters one of its eigendecompositions takes a minute or more.

    Args:
        start: first mean.
        settings: see `SearchSettings`.
        diagonal: whether only variances are learned.
    """

    def __init__(self, start: Vector, settings: SearchSettings, diagonal: bool) -> None:
        cma = _import_cma()
        rng = np.random.default_rng(settings.seed)
        options: dict[str, Any] = {
            "popsize": settings.population,
            "CMA_mu": settings.parents,
            "CMA_diagonal": diagonal,
            "randn": lambda *shape: rng.standard_normal(shape),
            # nan: leave numpy's global generator alone
            "seed": np.nan,
            "verbose": -9,
        }
        # Two-point adaptation needs two candidates of its own beside the others.
        if not diagonal or settings.population < 4:
            options["AdaptSigma"] = cma.sigma_adaptation.CMAAdaptSigmaCSA
        self._strategy = cma.CMAEvolutionStrategy(start, settings.sigma, options)
        self._asked: list[np.ndarray] = []

    @property
    def mean(self) -> Vector:
        """Mean of the distribution."""
        return np.array(self._strategy.mean)

    @property
    def sigma(self) -> float:
        """Overall step size."""
        return float(self._strategy.sigma)

    def ask(self) -> Population:
        """Draw a population."""
        self._asked = self._strategy.ask()
        return np.array(self._asked)

    def tell(self, fitness: Fitness) -> None:
        """Move the distribution (pycma minimises)."""
        self._strategy.tell(self._asked, (-fitness).tolist())


def _import_cma() -> Any:
    with warnings.catch_warnings():
        # Without matplotlib it says at every import that it cannot plot.
        warnings.simplefilter("ignore")
        import cma
    return cma


class Isotropic:
    """(mu/mu_w, lambda)-ES with one step size for all parameters, adapted by its path length.

    Equation numbers of Hansen's tutorial (arXiv 1604.00772). What is left of CMA-ES when nothing
    but the step size is learned; at thousands of parameters and tens of candidates, nearly all.

    Args:
        start: first mean.
        settings: see `SearchSettings`.
    """

    def __init__(self, start: Vector, settings: SearchSettings) -> None:
        n, mu = len(start), settings.parents
        self._rng = np.random.default_rng(settings.seed)
        self._mean, self._sigma, self._path = start.copy(), settings.sigma, np.zeros(n)
        ranks = np.arange(1, mu + 1)
        raw = np.log(max((settings.population + 1) / 2, mu + 0.5)) - np.log(ranks)  # eq. 49
        self._weights = raw / raw.sum()
        self._mu_eff = mu_eff = 1 / np.square(self._weights).sum()  # eq. 8
        self._rate = (mu_eff + 2) / (n + mu_eff + 5)  # eq. 55
        self._damping = 1 + 2 * max(0.0, np.sqrt((mu_eff - 1) / (n + 1)) - 1) + self._rate
        self._length = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))  # E|N(0, I)|
        self._shape = settings.population, n

    @property
    def mean(self) -> Vector:
        """Mean of the distribution."""
        return self._mean.copy()

    @property
    def sigma(self) -> float:
        """Step size."""
        return float(self._sigma)

    def ask(self) -> Population:
        """Draw a population."""
        self._steps = self._rng.standard_normal(self._shape)
        return self._mean + self._sigma * self._steps

    def tell(self, fitness: Fitness) -> None:
        """Step to the weighted mean of the best; adapt the step size."""
        best = np.argsort(-fitness, kind="stable")[: len(self._weights)]
        step = self._weights @ self._steps[best]
        self._mean = self._mean + self._sigma * step  # eq. 42
        fresh = np.sqrt(self._rate * (2 - self._rate) * self._mu_eff)
        self._path = (1 - self._rate) * self._path + fresh * step  # eq. 43
        stretch = np.linalg.norm(self._path) / self._length
        self._sigma *= np.exp(self._rate / self._damping * (stretch - 1))  # eq. 44


class RandomSearch:
    """Independent draws around the start; what any search has to beat.

    The best candidate takes part in the next generation again, because fitnesses of different
    minibatches cannot be compared.

    Args:
        start: centre of the draws, and the first best guess.
        settings: see `SearchSettings`.
    """

    def __init__(self, start: Vector, settings: SearchSettings) -> None:
        self._rng = np.random.default_rng(settings.seed)
        self._start, self._best = start.copy(), start.copy()
        self._settings = settings

    @property
    def mean(self) -> Vector:
        """The best candidate so far."""
        return self._best.copy()

    @property
    def sigma(self) -> float:
        """Standard deviation of the draws."""
        return self._settings.sigma

    def ask(self) -> Population:
        """The best so far, then new draws."""
        steps = self._rng.standard_normal((self._settings.population - 1, len(self._start)))
        self._asked = np.vstack([self._best, self._start + self.sigma * steps])
        return self._asked.copy()

    def tell(self, fitness: Fitness) -> None:
        """Remember the best."""
        self._best = self._asked[np.argmax(fitness)]


class Climb:
    """Adam (arXiv 1412.6980) along the slope of the fitness, where there is one: on records.

    Its step grows for 20 generations to `sigma`, and falls with the root of their number later. A
    few cases are a noisy guide, so where it stands is worse than the mean of all places where it
    was (Polyak and Juditsky 1992).

    Args:
        start: of the climb.
        settings: see `SearchSettings`; there is one candidate a generation, and no elite.
    """

    _MEMORIES = (0.9, 0.98)
    _RISE, _FALL = 20, 50
    _SMALLEST = 1e-8

    def __init__(self, start: Vector, settings: SearchSettings) -> None:
        self._vector, self._sum, self._most = start.copy(), start.copy(), settings.sigma
        self._mean, self._square = np.zeros_like(start), np.zeros_like(start)
        self._steps = 0

    @property
    def mean(self) -> Vector:
        """Of all vectors so far."""
        return self._sum / (1 + self._steps)

    @property
    def sigma(self) -> float:
        """The next step of a parameter, at most."""
        rise = min(1.0, (self._steps + 1) / self._RISE)
        return float(self._most * rise / np.sqrt(1 + self._steps / self._FALL))

    def ask(self) -> Population:
        """The one candidate."""
        return self._vector[None].copy()

    def tell(self, fitness: Fitness) -> None:
        """Refused: a fitness alone does not say where up is."""
        raise ValueError("a climb follows slopes")

    def follow(self, slope: Vector) -> None:
        """Step upwards."""
        first, second = self._MEMORIES
        sigma, self._steps = self.sigma, self._steps + 1
        self._mean = first * self._mean + (1 - first) * slope
        self._square = second * self._square + (1 - second) * slope**2
        mean = self._mean / (1 - first**self._steps)
        square = self._square / (1 - second**self._steps)
        self._vector = self._vector + sigma * mean / (np.sqrt(square) + self._SMALLEST)
        self._sum = self._sum + self._vector


SEARCHES = ("diagonal", "full", "isotropic", "random", "climb")


def make_search(name: str, start: Vector, settings: SearchSettings) -> Search:
    """A search by name, see `SEARCHES`.

    Raises:
        UserError: no search has this name.
    """
    if name not in SEARCHES:
        raise unknown_name("search", name, SEARCHES)
    if name in ("diagonal", "full"):
        return Covariance(start, settings, diagonal=name == "diagonal")
    others = {"isotropic": Isotropic, "random": RandomSearch, "climb": Climb}
    return others[name](start, settings)


def fingerprint(population: Population) -> str:
    """What tells one population from another, to the last bit."""
    return hashlib.sha256(np.ascontiguousarray(population).tobytes()).hexdigest()[:16]

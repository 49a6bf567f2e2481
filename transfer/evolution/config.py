"""Everything a run of evolution can be told. Nothing heavy is imported, because help reads it."""

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from transfer.adapters.control_names import control_model, is_held_out
from transfer.adapters.kinds import Source
from transfer.adapters.placement import Placement, usable_device
from transfer.arguments import check_fields
from transfer.errors import (
    MOST_SEED,
    MOST_TOKENS,
    UserError,
    check_at_least,
    check_finite,
    unknown_name,
)
from transfer.namm.config import NAMMConfig
from transfer.workers.engines import ENGINES

if TYPE_CHECKING:
    from transfer.evolution.search import SearchSettings

#: Parameters whose covariance still fits into memory, 3 GB of it.
_MOST_FULL = 20_000


@dataclass(frozen=True)
class EvolveConfig:
    """Evolve a NAMM on language and control, and keep the one that does best on held-out data.

    Fitness is the mean over models and tasks of: answer probability minus the full cache's, plus
    `likelihood-weight` x (log-likelihood of all tokens minus the full cache's), minus `keep-cost` x
    kept fraction. In control it is the return over the model's highest target, minus 1 and the same
    cost. A search is told ranks averaged over models and tasks.

    Args:
        out: folder of the run.
        models: language models; by shipped name, folder or hub id; all count equally.
        tasks: recall tasks by name; each is for every model. And control tasks, by environment
            (hopper, halfcheetah, walker2d) or the name of a shipped Decision Transformer, which
            need no model. All count equally. Commas may stand between them.
        init: start from this NAMM, or from the run in this folder; a NAMM (name, folder or hub id)
            may read less than `features` say, and of a run the searches are continued, for example
            with a task more.
        resume: continue the run in `out` where it was stopped.
        replay: search on the records in these folders instead of by forward passes; they are made
            by `transfer record` and take turns. The tasks are then for validation alone: what does
            best there is kept.
        held_out: folders of records that validations replay too, for the ledger.
        records: drawn a generation from the folders of `replay`, and four times as many every
            tenth; each is pruned under a budget and an interval of its own.
        generations: generations in all; those of a continued run included.
        seeds: one search for each seed; the best of them is kept.
        search: diagonal or full (CMA-ES), isotropic (evolution strategy), or random. The paper's is
            full, with a population of 32 and a sigma of 0.065. On records also climb, along the
            slope of the fitness of one candidate, in steps of at most sigma (0.002 is enough).
        population: candidates a generation.
        sigma: standard deviation of the first population.
        elite: share of the population that the next mean is made of.
        features: what it reads: spec (the paper's), log, slow, relative, relative_slow, rates,
            ages, place, sink, norms and unlike (of keys, no attention), or some with + between
            them (log+ages); two_decays is log+slow, universal all but spec, slow, rates, norms and
            unlike, universal_norms that and norms.
        scorer: bam (the paper's), mlp or linear.
        hidden: width of the scorer.
        bias: biases in the scorer's inner layers.
        gamma: decay of the spectrogram a query; with `init`, that NAMM's own is taken.
        evolve_gamma: search the decay too, within a tenth and ten times its odds. Candidates of
            different decay cannot share a forward pass, so they are evaluated one by one.
        documents: fresh ones a generation for each model and task, the same for all candidates.
        episodes: fresh ones a generation for each control task, the same for all candidates.
        max_steps: of an episode.
        lengths: tokens of a document, drawn a generation.
        budget: tokens a head, or fractions of those seen; drawn a generation, and a number below 1
            is a fraction. Without a number tokens scored below 0 leave.
        update_interval: tokens between two updates; drawn a generation, multiples of 16.
        eviction: exact, or reference, the original implementation's rule.
        share: who shares a budget: head (nobody), or layer (the heads of a layer); drawn a
            generation.
        keep_cost: lambda, the price of the kept fraction; without a budget about 0.3 to 0.5.
        likelihood_weight: weight of the log-likelihood of all tokens.
        validate_every: generations between two validations of the mean and the best candidate.
        validation_documents: held out for each model and task, the same for the whole run.
        validation_episodes: likewise for each control task.
        engine: in-process, processes or ray; processes are on this machine, Ray's on many.
        workers: processes, or actors of Ray.
        rows: sequences in one forward pass, candidates times documents; bounds memory.
        threads: of torch in each worker. Other numbers of threads may round differently.
        trust_remote_code: run the Python that a model from outside brings.
        place: where the models compute.

    Raises:
        UserError: a setting is unknown, out of range, or does not fit another.
    """

    out: Path
    models: tuple[str, ...] = ("llama-recall",)
    tasks: tuple[str, ...] = ("recall", "overwritten", "passkey")
    init: str | None = None
    resume: bool = False
    replay: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()
    records: int = 6
    generations: int = 100
    seeds: tuple[int, ...] = (0,)
    search: str = "diagonal"
    population: int = 16
    sigma: float = 0.2
    elite: float = 0.5
    features: str = "log"
    scorer: str = "bam"
    hidden: int = 32
    bias: bool = True
    gamma: float = 0.99
    evolve_gamma: bool = False
    documents: int = 8
    episodes: int = 4
    max_steps: int = 1000
    lengths: tuple[int, ...] = (256,)
    budget: Annotated[tuple[int | float, ...], arg(aliases=["--budgets"])] = (24, 32, 48, 64, 96)
    update_interval: Annotated[tuple[int, ...], arg(aliases=["--intervals"])] = (32, 48, 64)
    eviction: str = "exact"
    share: tuple[str, ...] = ("head",)
    keep_cost: float = 0.0
    likelihood_weight: float = 0.5
    validate_every: int = 10
    validation_documents: int = 32
    validation_episodes: int = 20
    engine: str = "in-process"
    workers: int = 2
    rows: int = 64
    threads: int = 1
    trust_remote_code: bool = False
    place: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        from transfer.evolution.search import SEARCHES

        check_fields(self)
        names = (name for words in self.tasks for name in words.split(",") if name)
        object.__setattr__(self, "tasks", tuple(names))
        self.search_settings(0)
        for kind, name, known in (
            ("search", self.search, SEARCHES),
            ("engine", self.engine, ENGINES),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        self._check_tasks()
        self._check_numbers()
        self.device  # noqa: B018  (says that it is not there)
        self._check_pruning()

    def _check_pruning(self) -> None:
        from transfer.cache.policy import Pruning
        from transfer.namm.network import NAMM
        from transfer.policies.namm import NAMMPolicy

        policy = NAMMPolicy(NAMM(self.namm))
        for update_interval in self.update_interval:
            for budget, share in product(self.budget or (None,), self.share):
                Pruning(policy, update_interval, budget, self.eviction, share=share)

    def _check_tasks(self) -> None:
        from transfer.tasks.recall import get_task

        for task in self.language_tasks:
            get_task(task)

    def _check_numbers(self) -> None:
        for name in ("tasks", "seeds", "lengths", "update_interval", "share"):
            if not getattr(self, name):
                raise UserError(f"{_flag(name)} names none; give one or more")
        if self.replay and not self.budget:
            raise UserError(
                "--budget names none, and a search on records compares at equal budgets; give one "
                "or more"
            )
        if self.search == "climb" and (not self.replay or self.evolve_gamma):
            raise UserError(
                "--search climb needs the slope of the fitness, which records have, and no search "
                "of the decay; give --replay, without --evolve-gamma"
            )
        searched = {folder.resolve() for folder in self.replay}
        for folder in self.held_out:
            if folder.resolve() in searched:
                raise UserError(f"--held-out {folder} is of --replay too; hold other records out")
        if self.language_tasks and not self.models:
            raise UserError("--models names none; give one or more")
        check_at_least(1, self, "generations", "documents", "validate_every")
        check_at_least(1, self, "validation_documents", "validation_episodes")
        check_at_least(1, self, "episodes", "max_steps", "rows", "records")
        check_at_least(1, self, "workers", "threads", most=1024)
        check_at_least(1, self, "lengths", most=MOST_TOKENS)
        check_at_least(0, self, "seeds", most=MOST_SEED)
        check_finite(self, "keep_cost", "likelihood_weight", least=0)
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"--seeds {self.seeds}: give different numbers")
        if self.search == "full" and self.namm.size > _MOST_FULL:
            raise UserError(
                f"--hidden {self.hidden} makes {self.namm.size:,} parameters, too many for a full "
                "covariance; use --search diagonal"
            )

    @property
    def controls(self) -> dict[str, str]:
        """The Decision Transformer of each control task."""
        models = {task: control_model(task) for task in self.tasks}
        for model in models.values():
            if model is not None and is_held_out(model):
                raise UserError(
                    f"{model} is held out, to judge NAMMs by; evolve on another model of its task"
                )
        return {task: model for task, model in models.items() if model is not None}

    @property
    def language_tasks(self) -> tuple[str, ...]:
        """The others."""
        return tuple(task for task in self.tasks if task not in self.controls)

    @property
    def device(self) -> str:
        """Of the models, all the same one; auto is the CPU where all of them are shipped.

        Raises:
            UserError: it cannot be used here.
        """
        models = self.models if self.language_tasks else ()
        small = all(Source(name).shipped for name in models)
        return usable_device(self.place.device, small, self.place.dtype)

    @property
    def namm(self) -> NAMMConfig:
        """What the evolved vectors mean."""
        return NAMMConfig(self.features, self.scorer, self.hidden, self.bias, self.gamma)

    def search_settings(self, seed: int) -> "SearchSettings":
        """Settings of one seed's search."""
        from transfer.evolution.search import SearchSettings

        return SearchSettings(self.population, self.sigma, self.elite, seed)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")

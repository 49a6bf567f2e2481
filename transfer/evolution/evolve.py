"""Evolution itself: ask, measure, tell, validate, write down; again.

Every generation is one line of the ledger, written when the search has been told. Nothing else has
to survive: when a run is resumed, the searches are told their ledger again, and must ask for the
very populations whose fitness it holds.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from transfer.arguments import typed
from transfer.errors import UserError, resumable
from transfer.evolution.card import write_card
from transfer.evolution.cases import Case, fitness_cases, validation_cases
from transfer.evolution.config import EvolveConfig
from transfer.evolution.evaluator import Evaluator
from transfer.evolution.fitness import Evaluation, Weights, evaluate
from transfer.evolution.folder import (
    LEDGER_FILE,
    RUN_FILE,
    Start,
    check_folder,
    described,
    open_run,
    seed_folder,
)
from transfer.evolution.genome import Genome
from transfer.evolution.ledger import Entry, Ledger, packed, saving, unpacked
from transfer.evolution.progress import EvolutionProgress
from transfer.evolution.replay import (
    ReplayCase,
    Replayed,
    check_records,
    evaluate_replay,
    held_out_cases,
    replay_cases,
)
from transfer.evolution.search import (
    Climb,
    Fitness,
    Population,
    Vector,
    fingerprint,
    make_search,
)
from transfer.evolution.slope import climbing
from transfer.files import locked, write_sealed
from transfer.namm.network import NAMM
from transfer.workers.base import Engine
from transfer.workers.engines import make_engine


@typed
def evolve(config: EvolveConfig) -> NAMM:
    """Evolve a NAMM, or go on with a run that was stopped.

    Returns:
        The one that did best on held-out documents, of all seeds; saved in `config.out / "namm"`.

    Raises:
        UserError: bad settings, a folder that holds another run, a ledger that does not fit, a
            full disk. Finished generations are always kept.
    """
    check_folder(config)
    check_records(config)
    models = config.models if config.language_tasks else ()
    controls, trusted = tuple(config.controls.values()), config.trust_remote_code
    longest = max(config.lengths)
    make = partial(
        Evaluator,
        models,
        controls,
        trust_remote_code=trusted,
        longest=longest,
        dtype=config.place.dtype,
        device_map=config.place.device_map,
    )
    with (
        resumable(f"finished generations are kept in {config.out}; --resume goes on from there"),
        locked(config.out),
        make_engine(config.engine, make, config.workers, config.threads, config.device) as engine,
        EvolutionProgress(config.generations, len(config.seeds)) as progress,
    ):
        start = open_run(config, engine)
        searches = [Evolution(config, seed, start, engine, progress) for seed in config.seeds]
        for search in searches:
            search.run()
    return _finish(config, start, searches)


#: Of a replayed search the mean of its last means is validated: a few records are a noisy guide.
_MEMORY = 0.9


@dataclass(frozen=True)
class Champion:
    """The best on held-out documents so far.

    Attributes:
        vector: its search vector.
        facts: which it was, `mean` or `best` candidate, of which generation, and its validation.
    """

    vector: Vector
    facts: Entry


@dataclass(frozen=True)
class Challenger:
    """The candidate that beat its generation's mean by most since the last validation."""

    vector: Vector
    advantage: float = -np.inf


class Evolution:
    """One seed's search.

    Args:
        config: of the run.
        seed: of the search and of its minibatches.
        start: where it starts.
        engine: measures candidates.
        progress: is told what happens.

    Attributes:
        seed: as given.
        champion: the best on held-out documents so far.
        seconds: by what they were spent on, over all generations.
    """

    def __init__(
        self,
        config: EvolveConfig,
        seed: int,
        start: Start,
        engine: Engine,
        progress: EvolutionProgress,
    ) -> None:
        self.seed = seed
        self.champion: Champion | None = None
        self.seconds: dict[str, float] = {}
        self._config, self._start = config, start
        self._engine, self._progress = engine, progress
        self._folder, self._run = seed_folder(config.out, seed), start.identity
        self._genome = Genome.of(start.namm, config.evolve_gamma)
        self._search = make_search(
            config.search, self._genome.vector(start.namm), config.search_settings(seed)
        )
        self._challenger = Challenger(self._search.mean)
        self._average = self._search.mean
        self._weights = Weights(config.keep_cost, config.likelihood_weight)
        self._generation = 0

    @property
    def namm(self) -> NAMM:
        """The champion."""
        assert self.champion is not None
        return self._genome.namm(self.champion.vector[None])

    def run(self) -> None:
        """Replay the ledger, then go on to the last generation."""
        with Ledger(self._folder / LEDGER_FILE) as ledger:
            for record in ledger.entries:
                self._replay(record)
            self._save()
            self._progress.begin(self.seed, self._generation)
            while self._generation < self._config.generations:
                record = self._advance()
                ledger.append(record)
                self._progress.generation(record)
                if record["validation"]:
                    self._report(record)
                    self._save()
        with saving(self._folder):
            self._genome.namm(self._search.mean[None]).save_pretrained(self._folder / "last")

    def _replay(self, record: Entry) -> None:
        where = f"generation {record['generation']} of {self._folder / LEDGER_FILE}"
        # Runs of earlier versions do not say which they are.
        if record["stage"] == self._start.stage and record.get("run", self._run) != self._run:
            raise UserError(f"{where} is of another run; put its own back, or start anew")
        population = self._search.ask()
        if (
            fingerprint(population) != record["population"]
            or len(record["fitness"]) != len(population)
            or record["generation"] != self._generation
        ):
            raise UserError(
                f"{where} was made from another population; use the versions of cma and numpy that "
                f"{RUN_FILE} names, on the same kind of machine, or start anew"
            )
        # Runs of earlier versions told their searches the fitness itself.
        told = record.get("ranks", record["fitness"])
        fitness = [np.nan if value is None else value for value in told]
        self._tell(population, np.array(fitness), unpacked(record.get("slope")))
        if record["validation"]:
            self._judge(record["validation"], record["stage"])
        self._count(record["seconds"])
        self._generation += 1

    def _advance(self) -> Entry:
        """One generation: its line for the ledger."""
        began = time.perf_counter()
        population = self._search.ask()
        asked = time.perf_counter()
        cases, found = self._measured(population)
        measured = time.perf_counter()
        slope = found.slope if isinstance(found, Replayed) else None
        self._tell(population, found.ranks, slope)
        told = time.perf_counter()
        validation = self._validate() if self._validation_is_due() else None
        if validation:
            self._judge(validation, self._start.stage)
        ended = time.perf_counter()
        record = {
            "stage": self._start.stage,
            "run": self._run,
            "generation": self._generation,
            "population": fingerprint(population),
            "computed": self._start.computed,
            "cases": [case.as_json() for case in cases],
            "fitness": _jsonable(found.fitness),
            "ranks": _jsonable(found.ranks),
            "kept": _jsonable(found.kept),
            "sigma": self._search.sigma,
            "seconds": {
                **asdict(found.seconds),
                "optimiser": asked - began + told - measured,
                "validation": ended - told,
                "total": ended - began,
            },
            "validation": validation,
        }
        if slope is not None:
            record["slope"] = packed(slope)
        self._count(record["seconds"])
        self._generation += 1
        return record

    def _measured(
        self, population: Population
    ) -> tuple[Sequence[Case | ReplayCase], Evaluation | Replayed]:
        """What this generation is measured on, and its measures."""
        told = self._config, self.seed, self._generation
        if self._config.replay:
            replays = replay_cases(*told)
            if isinstance(self._search, Climb):
                return replays, climbing(self._engine, self._genome, population[0], replays)
            return replays, self._replayed(population, replays)
        cases = fitness_cases(*told)
        return cases, self._evaluate(population, cases)

    def _evaluate(self, vectors: Population, cases: Sequence[Case]) -> Evaluation:
        told = self._engine, self._genome, vectors, cases
        return evaluate(*told, self._weights, self._config.rows)

    def _replayed(self, vectors: Population, cases: Sequence[ReplayCase]) -> Replayed:
        return evaluate_replay(self._engine, self._genome, vectors, cases, self._config.rows)

    def _tell(self, population: Population, fitness: Fitness, slope: Vector | None) -> None:
        """Tell the search; a fitness that is not a number takes the worst rank."""
        lost = ~np.isfinite(fitness)
        if lost.all():
            raise UserError(
                f"no candidate of generation {self._generation} has a fitness that is a number; "
                "check that the models' own outputs are finite"
            )
        if lost.any():
            names = ", ".join(map(str, np.flatnonzero(lost)))
            self._progress.note(
                f"seed {self.seed} generation {self._generation}: the fitness of candidate {names} "
                "is not a number and takes the worst rank"
            )
        ranked = np.where(lost, fitness[~lost].min() - 1, fitness)
        best = int(ranked.argmax())
        advantage = float(ranked[best] - fitness[~lost].mean())
        if advantage > self._challenger.advantage:
            self._challenger = Challenger(population[best].copy(), advantage)
        if slope is None:
            self._search.tell(ranked)
        else:
            assert isinstance(self._search, Climb)
            self._search.follow(slope)
        self._average = _MEMORY * self._average + (1 - _MEMORY) * self._search.mean

    def _validation_is_due(self) -> bool:
        done = self._generation + 1
        return done % self._config.validate_every == 0 or done == self._config.generations

    @property
    def _guess(self) -> Vector:
        """Where the search stands; a climb's mean is of all its places already."""
        ranked = self._config.replay and not isinstance(self._search, Climb)
        return self._average if ranked else self._search.mean

    def _validate(self) -> Entry:
        """The search's guess and the challenger on the held-out documents, and records.

        At first also the NAMM that was started from: what is worse than that is not kept.
        """
        validated = self._validated
        vectors = np.stack(list(validated.values()))
        found = self._evaluate(vectors, validation_cases(self._config))
        scores = {
            part: _jsonable(getattr(found, part))
            for part in ("fitness", "probability", "likelihood", "kept")
        }
        if cases := held_out_cases(self._config):
            scores["replay"] = _jsonable(self._replayed(vectors, cases).fitness)
        return {
            name: {part: values[number] for part, values in scores.items()}
            for number, name in enumerate(validated)
        }

    @property
    def _validated(self) -> dict[str, Vector]:
        found = {"mean": self._guess, "best": self._challenger.vector}
        if self._config.init is None or self.champion is not None:
            return found
        return found | {"start": self._genome.vector(self._start.namm)}

    def _judge(self, validation: Entry, stage: int) -> None:
        """Let the validated ones challenge the champion, if it is the tasks of this stage."""
        vectors = self._validated
        for name, scores in validation.items():
            if stage != self._start.stage or scores["fitness"] is None:
                continue
            if self.champion is None or scores["fitness"] > self.champion.facts["fitness"]:
                facts = {"which": name, "generation": self._generation, **scores}
                self.champion = Champion(vectors[name], facts)
        self._challenger = Challenger(self._search.mean)

    def _save(self) -> None:
        if self.champion is not None:
            with saving(self._folder):
                self.namm.save_pretrained(self._folder / "namm")

    def _count(self, seconds: Entry) -> None:
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value

    def _report(self, record: Entry) -> None:
        scores = ", ".join(
            f"{name} {_text(values['fitness'])} keeping {_text(values['kept'])}"
            for name, values in record["validation"].items()
        )
        self._progress.note(f"seed {self.seed} generation {record['generation']}: {scores}")


def _jsonable(values: np.ndarray) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _text(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.4f}"


def _finish(config: EvolveConfig, start: Start, searches: Sequence[Evolution]) -> NAMM:
    """Save the best seed's champion with its card, and what every seed reached."""
    results = {
        search.seed: {**search.champion.facts, "seconds": search.seconds}
        for search in searches
        if search.champion is not None
    }
    if not results:
        raise UserError(
            f"no NAMM of {config.out} has a validation that is a number; check that the models' "
            "own outputs are finite"
        )
    chosen = max(results, key=lambda seed: results[seed]["fitness"])
    [namm] = [search.namm for search in searches if search.seed == chosen]
    run = {**described(config, start), "chosen": chosen, "results": results}
    with saving(config.out):
        namm.save_pretrained(config.out / "namm")
        write_card(config.out / "namm", namm, run)
        write_sealed(config.out / RUN_FILE, run)
    return namm

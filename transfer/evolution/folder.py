"""The folder of a run: what it was told, where its searches started, and how it is taken up again.

run.json                 settings, command, versions; results at the end
start/                   NAMM at which the searches start, with the feature statistics
seed-0/ledger.jsonl      one line a generation, those of earlier stages first
seed-0/namm/             the best so far on held-out documents
seed-0/last/             the search's mean after the last generation
namm/                    the best of all seeds, with CARD.md
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from transfer.adapters.placement import say_widened
from transfer.errors import UserError
from transfer.evolution.cases import fitness_cases
from transfer.evolution.config import EvolveConfig
from transfer.evolution.evaluator import Statistics, StatisticsJob
from transfer.evolution.genome import Genome
from transfer.evolution.ledger import Ledger, read_ledger, saving
from transfer.files import content_digest, read_sealed, replacing, write_sealed
from transfer.namm.network import NAMM, NAMMConfig
from transfer.namm.widening import check_widens, widened
from transfer.provenance import command_line, versions
from transfer.replay import records
from transfer.workers.base import Engine

RUN_FILE, LEDGER_FILE = "run.json", "ledger.jsonl"
#: Settings that a run may be resumed with others of; what `place` comes to is compared instead.
_FREE = ("out", "resume", "generations", "seeds", "engine", "workers", "place")
#: Settings that a continued search cannot change.
_OF_SEARCH = ("search", "population", "sigma", "elite", "gamma", "evolve_gamma")
#: What runs of earlier versions call them.
_RENAMED = {"budgets": "budget", "intervals": "update_interval"}
_OF_NAMM = ("features", "scorer", "hidden", "bias")


#: Of each model, see `Evaluator.computed`.
Computed = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Start:
    """Where the searches of a run start.

    Attributes:
        namm: the first mean, with feature statistics.
        stage: 0, or one more than that of the run that is continued.
        identity: of the run, which every line of its ledgers says.
        computed: what decides the digits of each model, see `Evaluator.computed`.
    """

    namm: NAMM
    stage: int
    identity: str
    computed: Computed

    @classmethod
    def of(cls, config: EvolveConfig, namm: NAMM, stage: int, computed: Computed) -> "Start":
        """That of a new run, whose identity is of all that decides its numbers."""
        told = {name: value for name, value in _settings(config).items() if name not in _FREE}
        identity = content_digest([told, stage, _digest(namm), computed])
        return cls(namm, stage, identity, computed)


def seed_folder(run: Path, seed: int) -> Path:
    """Where one seed's search lives."""
    return run / f"seed-{seed}"


def check_folder(config: EvolveConfig) -> None:
    """Refuse to write over a run, or to resume one with other settings or records.

    Raises:
        UserError: either; or there are no records where the settings say.
    """
    _described_records(config)
    if not (config.out / RUN_FILE).exists():
        if config.init is None and any(config.out.glob(f"seed-*/{LEDGER_FILE}")):
            raise UserError(
                f"{config.out} holds ledgers but no {RUN_FILE} that says of which run; put it back,"
                " or choose another --out"
            )
        return
    if not config.resume:
        raise UserError(
            f"{config.out} holds a run; add --resume to go on with it, or choose another --out"
        )
    told, settings = _read_run(config.out)["config"], _settings(config)
    _refuse_changes(config.out, told, settings, [name for name in settings if name not in _FREE])
    _refuse_other_records(config)


def open_run(config: EvolveConfig, engine: Engine) -> Start:
    """Take up the run in `config.out`, or begin one there; see `check_folder`.

    Raises:
        UserError: `config.init` does not fit, or the folder cannot be written.
    """
    file = config.out / RUN_FILE
    computed: Computed = engine.map("computed", [None])[0]
    if config.engine != "in-process":
        for name, facts in computed.items():
            if "stored" in facts:
                say_widened(name, facts["stored"])
    if file.exists():
        return _resume(config, _read_run(config.out), computed)
    start = _begin(config, engine, computed)
    with saving(config.out):
        start.namm.save_pretrained(config.out / "start")
        # Last, because from now on the run is resumed.
        write_sealed(file, described(config, start))
    return start


def _resume(config: EvolveConfig, told: dict[str, Any], computed: Computed) -> Start:
    for name, before in told.get("computed", {}).items():
        if before != computed[name]:
            raise UserError(
                f"{config.out} was evolved with {name} in {_placed(before)}, and here it is in "
                f"{_placed(computed[name])}; say --dtype and --device as it was, or start anew"
            )
    namm = NAMM.from_pretrained(config.out / "start")
    if told.get("start", _digest(namm)) != _digest(namm):
        raise UserError(
            f"{config.out / 'start'} is not where the run started; put it back, or start anew with "
            "another --out"
        )
    for seed in config.seeds if told["stage"] else ():
        # A search that is continued has a past, which only its ledger holds.
        read_ledger(seed_folder(config.out, seed) / LEDGER_FILE)
    start = Start.of(config, namm, told["stage"], computed)
    return replace(start, identity=told.get("identity", start.identity))


def _placed(facts: Mapping[str, str]) -> str:
    return f"{facts['dtype']} on {facts['device']}"


def _digest(namm: NAMM) -> str:
    numbers = [tensor.tolist() for tensor in (namm.vector, namm.mean, namm.std)]
    return content_digest([asdict(namm.config), numbers])


def described(config: EvolveConfig, start: Start) -> dict[str, Any]:
    """What `run.json` says of a run from its beginning."""
    return {
        "command": command_line("evolve", replace(config, resume=False), public=True),
        "earlier_commands": _earlier_commands(config),
        "config": _settings(config),
        **_described_records(config),
        "stage": start.stage,
        "identity": start.identity,
        "start": _digest(start.namm),
        "computed": start.computed,
        "versions": versions(cma=version("cma")),
    }


def _described_records(config: EvolveConfig) -> dict[str, Any]:
    """By folder how the records of a run were made, and which they are.

    Raises:
        UserError: there are none in a folder.
    """
    return {
        name: {str(folder): records.described(folder) for folder in folders}
        for name, folders in (("records", config.replay), ("held_out", config.held_out))
    }


def _refuse_other_records(config: EvolveConfig) -> None:
    """A search draws from all that a folder holds, so with one more it is another search."""
    told, here = _read_run(config.out), _described_records(config)
    for name, folders in here.items():
        for folder, found in folders.items():
            if told[name][folder]["files"] != found["files"]:
                raise UserError(
                    f"{folder} holds other records than when {config.out} was begun; put its own "
                    "back, or start anew with another --out"
                )


def _earlier_commands(config: EvolveConfig) -> list[str]:
    """What made the NAMM or the run that this one starts from, if it was a run on this machine."""
    start = Path(config.init or "")
    runs = [folder for folder in (start, *start.parents[:2]) if (folder / RUN_FILE).is_file()]
    if config.init is None or not start.is_dir() or not runs:
        return []
    run = _read_run(runs[0])
    return [*run["earlier_commands"], run["command"]]


def _read_run(run: Path) -> dict[str, Any]:
    """What a run was told, in the words of this version.

    Raises:
        UserError: the file is missing, damaged or of something else.
    """
    path, remedy = run / RUN_FILE, "put it back, or start anew in another folder"
    told = read_sealed(path, remedy)
    kinds = {"config": dict, "stage": int, "command": str, "earlier_commands": list}
    if not all(isinstance(told.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{path} does not say what a run of transfer evolve was told; {remedy}")
    told["config"] = {_RENAMED.get(name, name): told["config"][name] for name in told["config"]}
    return told


def _settings(config: EvolveConfig) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(config), default=str))


def _begin(config: EvolveConfig, engine: Engine, computed: Computed) -> Start:
    if config.init is None:
        found = _statistics(config, config.namm, engine)
        genome = Genome(config.namm, found.mean, found.std)
        start = genome.uphill() if config.search == "climb" else genome.start()
        return Start.of(config, start, 0, computed)
    if (Path(config.init) / RUN_FILE).is_file():
        return _continue(config, Path(config.init), computed)
    namm = NAMM.from_pretrained(config.init)
    told, settings = asdict(namm.config), _settings(config)
    _refuse_changes(config.init, told, settings, [each for each in _OF_NAMM if each != "features"])
    if namm.config.features != config.features:
        check_widens(namm.config, config.features)
        wide = replace(namm.config, features=config.features)
        found = _statistics(config, wide, engine)
        mean, std = torch.tensor(found.mean), torch.tensor(found.std)
        namm = widened(namm, config.features, mean, std)
    return Start.of(config, namm, 0, computed)


def _statistics(config: EvolveConfig, namm: NAMMConfig, engine: Engine) -> Statistics:
    """Of what is read, on the documents of the first generation."""
    cases = fitness_cases(config, seed=0, generation=0)
    read = [case for case in cases if case.task in config.language_tasks]
    return engine.map("statistics", [StatisticsJob(tuple(read or cases), namm)])[0]


def _continue(config: EvolveConfig, run: Path, computed: Computed) -> Start:
    """Inherit another run's start and ledgers: its searches go on where they were."""
    told = _read_run(run)
    _refuse_changes(run, told["config"], _settings(config), (*_OF_SEARCH, *_OF_NAMM))
    for seed in config.seeds:
        records = read_ledger(seed_folder(run, seed) / LEDGER_FILE)
        if len(records) >= config.generations:
            raise UserError(
                f"{run} has made {len(records)} generations with seed {seed}; "
                f"ask for more than that in all, not --generations {config.generations}"
            )
        target = seed_folder(config.out, seed) / LEDGER_FILE
        with saving(target), replacing(target) as partial:
            partial.unlink()
            with Ledger(partial) as copy:
                for record in records:
                    copy.append(record)
    return Start.of(config, NAMM.from_pretrained(run / "start"), told["stage"] + 1, computed)


def _refuse_changes(
    source: str | Path, told: dict[str, Any], settings: dict[str, Any], names: Sequence[str]
) -> None:
    for name in names:
        # A run of an earlier version does not know every setting.
        if told.get(name, settings[name]) != settings[name]:
            raise UserError(
                f"{source} was evolved with --{name.replace('_', '-')} {_words(told[name])}, this "
                f"command says {_words(settings[name])}; say the same, or start anew"
            )


def _words(value: Any) -> str:
    return " ".join(map(str, value if isinstance(value, list) else [value])) or "none"

"""The recording itself: model after model, file after file, resumable.

record.json            settings, command, versions
MODEL-TASK-....safetensors   one for each run, see `transfer.replay.records`
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any

from rich.progress import DownloadColumn

from transfer.adapters.kinds import Kind, Source
from transfer.arguments import typed
from transfer.errors import UserError, resumable
from transfer.files import content_digest, locked, write_sealed
from transfer.progress import bars
from transfer.provenance import command_line, versions
from transfer.replay.config import RecordConfig
from transfer.replay.playing import playing, survey_playing
from transfer.replay.reading import reading, survey_reading
from transfer.replay.recording import bytes_of, record_layers
from transfer.replay.records import FILE, SUFFIX, Record, read_records, told, write_record
from transfer.replay.runs import Runs, Survey, Surveys
from transfer.replay.watching import survey_watching, watching
from transfer.tasks.texts import read_texts

_RUNS: Mapping[Kind, Runs] = {"language": reading, "video": watching, "control": playing}
_SURVEYS: Mapping[Kind, Surveys] = {
    "language": survey_reading,
    "video": survey_watching,
    "control": survey_playing,
}
#: Settings with which a recording may be gone on with.
_FREE = ("out", "place")


@typed
def record(config: RecordConfig) -> list[Record]:
    """Record everything that is not recorded yet.

    Returns:
        All records of the folder.

    Raises:
        UserError: bad settings, a folder that holds another recording, a full disk. Finished
            records are always kept.
        SimulationError: an episode failed.
    """
    kinds: dict[str, Kind] = {model: Source(model).kind for model in config.models}
    with (
        locked(config.out),
        resumable(f"finished records are kept in {config.out}; the same command goes on"),
        bars(DownloadColumn()) as progress,
    ):
        begun = _begun(config)
        task = progress.add_task("looking at the models", total=None)
        surveys = {model: _SURVEYS[kind](config, model) for model, kind in kinds.items()}
        whole, done = sum(survey.size for survey in surveys.values()), _written(config.out)
        room = _room(config.out, whole, done)
        _begin(config, begun, surveys)
        progress.console.print(room, highlight=False, soft_wrap=True)
        progress.update(task, total=whole, completed=done)
        for model, kind in kinds.items():
            for run in _RUNS[kind](config, model, partial(_is_written, config.out)):
                size = bytes_of(run.adapter, run.embeddings.shape[0] * run.embeddings.shape[1])
                progress.update(task, description=run.name)
                layers = record_layers(run.adapter, run.embeddings, run.objective)
                about = {"model": model, "task": run.task, "modality": kind, "window": run.window}
                write_record(config.out / f"{run.name}{SUFFIX}", layers, run.first, about)
                progress.advance(task, size)
    return read_records(config.out)


def _begun(config: RecordConfig) -> dict[str, Any] | None:
    """What the folder was begun with; refuses that of another recording."""
    if not (config.out / FILE).exists():
        return None
    begun = told(config.out)
    # Recordings of earlier versions are of the whole cache. Of where models compute, only the
    # numbers that they compute in decide.
    ours, before = (
        {"memory": "full", **each, "dtype": each["place"]["dtype"]}
        for each in (_settings(config), begun["config"])
    )
    for name, value in ours.items():
        if name not in _FREE and before.get(name) != value:
            raise UserError(
                f"{config.out} was recorded with --{name.replace('_', '-')} "
                f"{_words(before.get(name))}, this command says {_words(value)}; say the "
                "same, or choose another --out"
            )
    if begun["texts"] != _texts(config):
        raise UserError(
            f"{config.data} has other texts than when {config.out} was begun; put them back, "
            "or choose another --out"
        )
    return begun


def _begin(
    config: RecordConfig, begun: dict[str, Any] | None, surveys: Mapping[str, Survey]
) -> None:
    """Say whose folder it is, or refuse to go on with other weights."""
    weights = {model: survey.weights for model, survey in surveys.items()}
    if begun is not None:
        # Recordings of earlier versions do not say them.
        before = begun.get("weights", weights)
        for model in (model for model in weights if weights[model] != before[model]):
            raise UserError(
                f"{model} has other weights than when {config.out} was begun; put them back, or "
                "choose another --out"
            )
        return
    write_sealed(
        config.out / FILE,
        {
            "command": command_line("record", config, public=True),
            "config": _settings(config),
            "texts": _texts(config),
            "weights": weights,
            "versions": versions(),
        },
    )


def _settings(config: RecordConfig) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(config), default=str))


def _texts(config: RecordConfig) -> str | None:
    return None if config.data is None else content_digest(read_texts(config.data))


def _written(out: Path) -> int:
    """Bytes of the records that are there."""
    return sum(path.stat().st_size for path in out.glob(f"*{SUFFIX}"))


def _room(out: Path, whole: int, done: int) -> str:
    """How much all of it takes, in a sentence.

    Raises:
        UserError: the disk has less.
    """
    left = max(0, whole - done)
    free = disk_usage(out).free
    if left > free:
        raise UserError(
            f"the records take up to {left / 1e6:,.0f} MB more, and the disk of {out} has "
            f"{free / 1e6:,.0f} MB free; make room, choose another --out, or record fewer "
            "--documents, --lengths or --steps"
        )
    return f"{out} will hold up to {whole / 1e6:,.1f} MB; {free / 1e6:,.0f} MB are free"


def _is_written(out: Path, name: str) -> bool:
    return (out / f"{name}{SUFFIX}").exists()


def _words(value: Any) -> str:
    values = value if isinstance(value, list) else [value] if value is not None else []
    return " ".join(map(str, values)) or "none"

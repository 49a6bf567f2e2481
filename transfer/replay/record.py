"""The recording itself: model after model, file after file, resumable.

record.json            settings, command, versions
MODEL-TASK-....safetensors   one for each run, see `transfer.replay.records`
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from transfer.adapters.kinds import Kind, Source
from transfer.arguments import typed
from transfer.errors import UserError, resumable
from transfer.files import content_digest, locked, write_sealed
from transfer.provenance import command_line, versions
from transfer.replay.config import RecordConfig
from transfer.replay.playing import playing
from transfer.replay.reading import reading
from transfer.replay.recording import bytes_of, record_layers
from transfer.replay.records import FILE, SUFFIX, Record, read_records, told, write_record
from transfer.replay.runs import Runs
from transfer.replay.watching import watching
from transfer.tasks.texts import read_texts

_KINDS: Mapping[Kind, Runs] = {"language": reading, "video": watching, "control": playing}
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
        _progress() as progress,
    ):
        _begin(config)
        task = progress.add_task("recording", total=None)
        for model, kind in kinds.items():
            for run in _KINDS[kind](config, model, partial(_is_written, config.out)):
                size = bytes_of(run.adapter, run.embeddings.shape[0] * run.embeddings.shape[1])
                progress.update(task, description=f"recording {run.name}, {size / 1e6:,.1f} MB")
                layers = record_layers(run.adapter, run.embeddings, run.objective)
                about = {"model": model, "task": run.task, "modality": kind, "window": run.window}
                write_record(config.out / f"{run.name}{SUFFIX}", layers, run.first, about)
    return read_records(config.out)


def _begin(config: RecordConfig) -> None:
    """Refuse the folder of another recording, or say whose it is."""
    path = config.out / FILE
    texts = None if config.data is None else content_digest(read_texts(config.data))
    settings = json.loads(json.dumps(asdict(config), default=str))
    if path.exists():
        begun = told(config.out)
        before = begun["config"]
        for name, value in settings.items():
            if name not in _FREE and before.get(name) != value:
                raise UserError(
                    f"{config.out} was recorded with --{name.replace('_', '-')} "
                    f"{_words(before.get(name))}, this command says {_words(value)}; say the "
                    "same, or choose another --out"
                )
        if begun["texts"] != texts:
            raise UserError(
                f"{config.data} has other texts than when {config.out} was begun; put them back, "
                "or choose another --out"
            )
        return
    write_sealed(
        path,
        {
            "command": command_line("record", config, public=True),
            "config": settings,
            "texts": texts,
            "versions": versions(),
        },
    )


def _is_written(out: Path, name: str) -> bool:
    return (out / f"{name}{SUFFIX}").exists()


def _words(value: Any) -> str:
    return " ".join(map(str, value if isinstance(value, list) else [value])) or "none"


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
    )

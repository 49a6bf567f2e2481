"""Results as they are published: a small JSON file without rows, which pages are built from.

Numbers have six digits, paths of the machine are left out, and `namm` alone says which it was. A
digest tells whether a file was changed since.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from transfer.errors import UserError
from transfer.evaluation.store import HELD_FIELDS, SUMMARY_FIELDS, Results, Row
from transfer.evaluation.summary import ALL, FAMILY
from transfer.files import content_digest, read_json, read_sealed, replacing
from transfer.namm.config import DEFAULT_NAMM
from transfer.report.runs import Evaluated

_FIELDS = (
    *SUMMARY_FIELDS, *HELD_FIELDS, "group_by", "group", "update_interval", "share", "nominal",
    "modality",
)  # fmt: skip
#: Of an absolute path its last part stays.
_PATH = re.compile(r"(?<![\w.])/(?:[^\s/:'\"]+/)+(?=[^\s/:'\"])")


def publish(run: Evaluated, folder: Path) -> Path:
    """Write the summary of a run into a folder of published results; its path.

    Raises:
        UserError: the folder cannot be written.
    """
    found = run.results
    content = {
        "kind": found.kind,
        "command": _PATH.sub("", found.command),
        "versions": dict(found.versions),
        "computed": dict(found.computed),
        "metrics": list(found.metrics),
        "keys": list(found.keys),
        "notes": [_PATH.sub("", note) for note in found.notes],
        "summary": [_entry(found, entry) for entry in found.summary if _is_published(entry)],
    }
    path = folder / f"{run.name.replace('/', '-')}.json"
    if path.exists() and read_json(path).get("command") != content["command"]:
        raise UserError(
            f"{path} is of another run, of the same folder's name; rename one of the folders"
        )
    with replacing(path) as partial:
        partial.write_text(_written(content), encoding="utf-8")
    return path


def _is_published(entry: Row) -> bool:
    """Means over a task or a family, and a grid of depths."""
    return entry.get("group_by", ALL) in (ALL, FAMILY, "depth")


def _entry(results: Results, entry: Row) -> Row:
    deltas = [name for name in entry if name.startswith("delta_")]
    names = dict.fromkeys((*_FIELDS, *results.keys, *deltas))
    told = {name: _rounded(entry[name]) for name in names if entry.get(name) is not None}
    named = _named(entry["policy"], results.command)
    return told | {"policy": _PATH.sub("", named), "model": _PATH.sub("", entry["model"])}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _named(policy: str, command: str) -> str:
    """`namm` with the name of the one that it was; as it is where there were several."""
    if re.split("[:,]", policy)[0] != "namm" or re.match(r"namm:[^:=]+(:|$)", policy):
        return policy
    words = shlex.split(command)
    said = words[words.index("--namm") + 1] if "--namm" in words else DEFAULT_NAMM
    return policy.replace("namm", f"namm:{said.removeprefix('namm-')}", 1)


def _written(content: Row) -> str:
    """A line an entry, so that changes can be seen."""
    head = {name: value for name, value in content.items() if name != "summary"}
    entries = ",\n".join(json.dumps(entry) for entry in content["summary"])
    opened = json.dumps(head, indent=1)[:-2]
    digest = json.dumps(content_digest(content))
    return f'{opened},\n "summary": [\n{entries}\n ],\n "digest": {digest}\n}}\n'


def read_published(folder: Path) -> list[Evaluated]:
    """All published results in a folder and those in it, by their names.

    Raises:
        UserError: there are none, or one cannot be read or was changed.
    """
    paths = sorted(folder.rglob("*.json")) if folder.is_dir() else []
    runs = [_read(path, folder) for path in paths]
    if not runs:
        raise UserError(
            f"{folder} holds no published results; add some with `transfer leaderboard {folder} "
            "--add DIR`"
        )
    return runs


def _read(path: Path, folder: Path) -> Evaluated:
    told = read_sealed(path, "publish its run again, or remove it")
    try:
        nothing = dict.fromkeys(SUMMARY_FIELDS)
        summary = [nothing | entry for entry in told.pop("summary")]
        results = Results(rows=[], summary=summary, **told)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} holds no published results ({error}); remove it, or name another folder"
        ) from error
    return Evaluated(path.relative_to(folder).with_suffix("").as_posix(), results)

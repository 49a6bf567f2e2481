"""A record on disk: one safetensors file for some sequences of one length, in half precision.

Outputs are not written down: they are computed again from what is, so that a cache from which
nothing left costs exactly nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from transfer.errors import UserError
from transfer.files import content_digest, read_sealed, replacing
from transfer.replay.recording import LayerStates

#: What says how the records of a folder were made.
FILE = "record.json"
SUFFIX = ".safetensors"
_ABOUT = "record"
_PARTS = ("query", "key", "value", "gradient")
#: The largest gradient of a record is written as this, for half precision has few small numbers.
_LARGEST = 2.0**12


@dataclass(frozen=True)
class About:
    """What a record is of.

    Attributes:
        model: name.
        task: name; of a text, its path.
        modality: `language`, `video` or `control`.
        rows: sequences.
        tokens: of each.
        first: index of the first token, see `PrunedCache.count_from`.
        scales: of the scores, by layer.
        window: newest tokens that each attended to, itself among them; None: all.
    """

    model: str
    task: str
    modality: str
    rows: int
    tokens: int
    first: int
    scales: dict[str, float]
    window: int | None = None


@dataclass(frozen=True)
class Record:
    """A record that is read layer by layer.

    Args:
        path: of its file.
    """

    path: Path

    @cached_property
    def about(self) -> About:
        """What it is of.

        Raises:
            UserError: the file is no record, or cut.
        """
        try:
            with safe_open(self.path, "pt") as file:
                return About(**json.loads((file.metadata() or {})[_ABOUT]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.path} is no record of `transfer record`, or cut ({error}); record it anew"
            ) from error

    @property
    def layers(self) -> list[int]:
        """Indices of its layers."""
        return sorted(map(int, self.about.scales))

    def layer(self, index: int, rows: Sequence[int], device: str = "cpu") -> LayerStates:
        """One layer's states of some sequences, in single precision."""
        with safe_open(self.path, "pt") as file:
            query, key, value, gradient = (
                file.get_tensor(f"{index}.{part}")[list(rows)].to(device).float() for part in _PARTS
            )
        return LayerStates(query, key, value, gradient, self.about.scales[str(index)])


def write_record(
    path: Path, layers: Mapping[int, LayerStates], first: int, about: Mapping[str, Any]
) -> None:
    """Write what `record_layers` gave, whole or not at all.

    Raises:
        UserError: a number is beyond half precision; or the file cannot be written.
    """
    some = next(iter(layers.values()))
    whole = About(
        **about,
        rows=len(some.query),
        tokens=some.query.shape[2],
        first=first,
        scales={str(index): one.scale for index, one in layers.items()},
    )
    largest = max(float(one.gradient.abs().max()) for one in layers.values())
    # (Where nothing matters, nothing is scaled.)
    factor = _LARGEST / largest if largest else 1.0
    tensors: dict[str, Tensor] = {}
    for index, one in layers.items():
        for part in _PARTS:
            states = getattr(one, part) * factor if part == "gradient" else getattr(one, part)
            half = states.to("cpu", torch.float16).contiguous()
            if not half.isfinite().all():
                raise UserError(
                    f"the {part} of layer {index} of {whole.model} has numbers beyond half "
                    "precision, in which records are; record another model"
                )
            tensors[f"{index}.{part}"] = half
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={_ABOUT: json.dumps(asdict(whole))})


def read_records(folder: Path) -> list[Record]:
    """Every record of a folder, in the order of their names.

    Raises:
        UserError: there is no folder, or no record in it.
    """
    # (Those that begin with a dot are not whole yet.)
    paths = sorted(folder.glob(f"[!.]*{SUFFIX}")) if folder.is_dir() else []
    if not paths:
        raise UserError(
            f"{folder} holds no records; make some with `transfer record --out {folder}`"
        )
    return [Record(path) for path in paths]


def described(folder: Path) -> dict[str, Any]:
    """What the recording of a folder was told, and a digest of which records it made.

    Raises:
        UserError: there are none.
    """
    sizes = {one.path.name: one.path.stat().st_size for one in read_records(folder)}
    return {**told(folder), "files": content_digest(sizes)}


def told(folder: Path) -> dict[str, Any]:
    """What the recording of a folder was told: its `command` and its `config`.

    Raises:
        UserError: there is no recording, or what it says was changed.
    """
    if not (folder / FILE).is_file():
        raise UserError(f"{folder} holds no records; make some with `transfer record`")
    return read_sealed(folder / FILE, "record anew into another folder")

"""A pruned cache in a file: what its layers hold, and the model and pruning that it belongs to.

The file is safetensors, so that nothing in it can run, and says a digest of all that it holds. Free
slots are not written, but how many there were: where rows lie decides which kernels run, and what
is read goes on to the same bits.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from transfer.arguments import shown
from transfer.cache.columns import Columns
from transfer.cache.held import Held
from transfer.cache.layer import PrunedLayer
from transfer.cache.protected import Protected
from transfer.cache.queries import QueryLog
from transfer.errors import UserError
from transfer.files import reading_tensors, replacing

FORMAT = 1
_STATES = ("conv_states", "recurrent_states")
_AGAIN = "save the cache again"

#: Tensors of a layer by name, and what JSON says of it.
Part = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass(frozen=True)
class SavedCache:
    """What a file holds.

    Attributes:
        path: of the file.
        identity: of the model and the pruning, see `Binding.identity`.
        layers: of each layer by its index in the model, tensors and the rest.
        most_elsewhere: the most bytes that layers held which are not pruned.
    """

    path: Path
    identity: Mapping[str, Any]
    layers: Mapping[int, Part]
    most_elsewhere: int = 0

    def write(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        tensors = {
            f"layers.{index}.{name}": tensor
            for index, (own, _) in self.layers.items()
            for name, tensor in own.items()
        }
        told = json.dumps(
            {
                "format": FORMAT,
                "identity": self.identity,
                "layers": {index: more for index, (_, more) in self.layers.items()},
                "most_elsewhere": self.most_elsewhere,
            }
        )
        with replacing(self.path) as partial:
            save_file(tensors, partial, {"cache": told, "digest": _digest(told, tensors)})

    @classmethod
    def read(cls, path: Path) -> "SavedCache":
        """Read a file, and check that it is what was written.

        Raises:
            UserError: there is none, it is cut, changed or another kind of file, or of another
                version of this package.
        """
        if not path.is_file():
            raise UserError(f"there is no file {path}; give one that cache.save(FILE) wrote")
        with reading_tensors(path, _AGAIN), safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            # Copies: what is mapped would follow whatever becomes of the file.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        told = metadata.get("cache")
        if told is None:
            raise UserError(f"{path} holds no cache; give a file that cache.save(FILE) wrote")
        with reading_tensors(path, _AGAIN):
            content = json.loads(told)
            written = content["format"]
        if written != FORMAT:
            raise UserError(f"{path} says format {written}, this version reads {FORMAT}; {_AGAIN}")
        if metadata.get("digest") != _digest(told, tensors):
            raise UserError(f"{path} was changed after it was written; {_AGAIN}")
        layers: dict[int, Part] = {int(i): ({}, more) for i, more in content["layers"].items()}
        for name, tensor in tensors.items():
            _, index, own = name.split(".", 2)
            layers[int(index)][0][own] = tensor
        return cls(path, content["identity"], layers, content["most_elsewhere"])

    def check(self, identity: Mapping[str, Any]) -> None:
        """Refuse another model and another pruning.

        What only one of both says is of another version of transformers or of this package.

        Raises:
            UserError: the first thing that differs.
        """
        for name in (each for each in self.identity if each in identity):
            told, own = self.identity[name], identity[name]
            # Python takes 1 and 1.0 for the same; as budgets they are not.
            if json.dumps(told, sort_keys=True) != json.dumps(own, sort_keys=True):
                raise UserError(
                    f"{self.path} was saved under {name} {shown(told)}, and here it is "
                    f"{shown(own)}; load it with the model, the policy and the settings that it "
                    "was saved with"
                )


def _digest(told: str, tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(told.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_kept(path: Path, layers: Sequence[PrunedLayer]) -> None:
    """Write which tokens layers hold, and nothing else; see `PrunedCache.save_kept`."""
    tensors = {}
    for layer in layers:
        tensors[f"layers.{layer.index}.lengths"] = torch.tensor(layer.kept())
        tensors[f"layers.{layer.index}.positions"] = torch.cat(layer.positions()).cpu()
    with replacing(path) as partial:
        save_file(tensors, partial, {"seen": str(layers[0].seen)})


def packed(layer: Any) -> Part:
    """What a layer of a cache holds."""
    if isinstance(layer, PrunedLayer):
        tensors, told = _packed_tokens(layer)
    else:
        tensors, told = _packed_window(layer)
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        for name in _STATES:
            states = getattr(layer, name)
            tensors |= {f"{name}.{i}": state for i, state in states.items() if state is not None}
        told |= {"previous": layer.has_previous_state, "kernels": layer.conv_kernel_size}
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, told


def unpack(layer: Any, part: Part, device: torch.device) -> None:
    """Let an empty layer hold what another held when it was packed, which was something."""
    tensors = {name: tensor.to(device) for name, tensor in part[0].items()}
    told = part[1]
    if isinstance(layer, PrunedLayer):
        _unpack_tokens(layer, tensors, told)
    elif "keys" in tensors:
        _unpack_window(layer, tensors, told)
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        _unpack_states(layer, tensors, told)


def _packed_tokens(layer: PrunedLayer) -> Part:
    now = layer.now
    if now is None:
        return {}, {}
    store = now.store.part(range(len(now.store.lengths)))
    tensors = {
        "keys": store.keys,
        "values": store.values,
        "positions": store.positions,
        "lengths": torch.tensor(store.lengths).view(layer.batch_size, layer.kv_heads),
        "state": store.state,
    }
    log, columns = now.log, now.columns
    if log is not None:
        rows = log.carried + max(log.pending)
        tensors |= {"query": log.query[:, :, :rows], "lse": log.lse[:, :, :rows]}
    named = {"padding": columns.padding, "dropped": columns.dropped}
    named["protected"] = layer.protected.columns if layer.protected else None
    # Layers may share these, which safetensors does not write twice.
    tensors |= {name: tensor.clone() for name, tensor in named.items() if tensor is not None}
    return tensors, {
        "interval": layer.pruning.interval,
        "capacity": now.store.capacity,
        "observed": store.observed,
        "pending": log.pending if log else [],
        "seen": columns.seen,
        "counts": now.counts,
        "last": now.last,
        "held": [astuple(held) for held in now.held],
        "first": layer.first,
        "scale": layer.scale,
        "room": layer.room,
        "peak_bytes": layer.peak_bytes,
        "policy_seconds": layer.policy_seconds,
    }


def _unpack_tokens(
    layer: PrunedLayer, tensors: Mapping[str, Tensor], told: Mapping[str, Any]
) -> None:
    layer.pruning = replace(layer.pruning, update_interval=told["interval"])
    heads = (*tensors["lengths"].shape, 0)
    empty = (tensors[name].new_empty(*heads, tensors[name].shape[1]) for name in ("keys", "values"))
    PrunedLayer.lazy_initialization(layer, *empty)
    assert layer.now is not None
    now, lengths = layer.now, tensors["lengths"].flatten().tolist()
    now.store.fill(
        tensors["keys"], tensors["values"], tensors["positions"], lengths, told["capacity"]
    )
    now.store.state, now.store.observed = tensors["state"], told["observed"]
    if "query" in tensors:
        query, lse, pruning = tensors["query"], tensors["lse"], layer.pruning
        now.log = QueryLog(query, lse, pruning.carried, pruning.stride)
        now.log.query[:, :, : query.shape[2]], now.log.lse[:, :, : lse.shape[2]] = query, lse
        now.log.pending = told["pending"]
    masks = (tensors[name].cpu() if name in tensors else None for name in ("padding", "dropped"))
    now.columns = Columns(told["seen"], *masks)
    now.counts, now.last = told["counts"], told["last"]
    now.held = [Held(*held) for held in told["held"]]
    if "protected" in tensors:
        layer.protected = Protected(tensors["protected"].cpu())
    for name in ("first", "scale", "room", "peak_bytes", "policy_seconds"):
        setattr(layer, name, told[name])


def _packed_window(layer: Any) -> Part:
    """Of a layer that keeps its stock cache: its window, where it has one."""
    held = {name: getattr(layer, name, None) for name in ("keys", "values")}
    tensors = {name: tensor for name, tensor in held.items() if tensor is not None}
    return tensors, {"cumulative": layer.cumulative_length} if tensors else {}


def _unpack_window(layer: Any, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    layer.lazy_initialization(tensors["keys"], tensors["values"])
    layer.keys, layer.values = tensors["keys"], tensors["values"]
    layer.cumulative_length = told["cumulative"]


def _unpack_states(layer: Any, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Of a layer with a recurrent state, through the protocol by which models begin one."""
    for place in range(layer.number_of_states):
        conv, recurrent = (tensors.get(f"{name}.{place}") for name in _STATES)
        size = told["kernels"][str(place)]
        # One state a call: layers that have a window too take no more words.
        if conv is not None:
            layer.lazy_initialization(conv_states=conv, state_idx=place, conv_kernel_size=size)
        if recurrent is not None:
            layer.lazy_initialization(recurrent_states=recurrent, state_idx=place)
        for name, state in zip(_STATES, (conv, recurrent)):
            if state is not None:
                getattr(layer, name)[place].copy_(state)
        layer.has_previous_state[place] = told["previous"][str(place)]

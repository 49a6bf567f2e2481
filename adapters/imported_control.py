"""Decision Transformers of other authors' code: state dicts, told apart by names and shapes.

The original's (kzl/decision-transformer) has the layout of transformers, which is read too, under
other names, and no positions. That of
min-decision-transformer keeps queries, keys and values apart, and normalises after each addition.
Neither says how many heads there are.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from transfer.adapters.control_facts import given_facts
from transfer.adapters.control_model import ControlModel, check_sizes, settings_of
from transfer.adapters.kinds import check_config
from transfer.adapters.post_norm import control_class
from transfer.arguments import typed
from transfer.envs.environment import environment
from transfer.errors import UserError
from transfer.namm.original import read_checkpoint

_LAYER = re.compile(r"(?:transformer|blocks)\.(\d{1,4})\.(.+)")
#: Of a layer of min-decision-transformer; those here hold the transposed.
_LINEAR = {"attention.proj_net": "attn.c_proj", "mlp.0": "mlp.c_fc", "mlp.2": "mlp.c_proj"}
_NORMS = {"ln1": "ln_1", "ln2": "ln_2"}
#: Of the rest of it.
_RENAMED = {"embed_rtg": "embed_return", "predict_rtg": "predict_return"}
#: What is no weight but a mask.
_BUFFERS = re.compile(r"\.attn\.(bias|masked_bias)$|\.attention\.mask$")
#: Of transformers' GPT-2: positions and words.
_TABLES = ("encoder.wpe.weight", "encoder.wte.weight")
_OURS = re.compile(r"encoder\.h\.(\d+)\.")
_REMEDY = "give the state dict of kzl/decision-transformer or min-decision-transformer"
_MARK = "embed_timestep.weight"


def is_control(content: Any) -> bool:
    """Whether a checkpoint is the state dict of a Decision Transformer."""
    return _MARK in _state(content)


@typed
def import_control(
    path: str | Path,
    env: str | None = None,
    quality: str | None = None,
    statistics: Path | None = None,
    heads: int = 1,
) -> ControlModel:
    """Read a state dict of kzl/decision-transformer or min-decision-transformer.

    Args:
        path: of the file that `torch.save` wrote; nothing in it is executed.
        env: that it was trained in.
        quality: of D4RL's data that it was trained on, whose state statistics are known.
        statistics: a file of the state statistics, see
            `transfer.adapters.control_facts.read_statistics`.
        heads: of each layer, which no weight says; both authors' default is 1.

    Raises:
        UserError: the file is missing, damaged, holds code or another layout, or the environment
            or the statistics are unknown or do not fit.
    """
    state = _state(read_checkpoint(path))
    _check_plain(path, state)
    separate = any(name.endswith(".q_net.weight") for name in state)
    weights = (_of_min if separate else _of_original)(state)
    facts = given_facts(Path(path), env, quality, statistics) | _context(state)
    choices = environment(str(facts["env"])).choices
    config = _config(path, weights, heads)
    activation = "gelu" if separate else "relu"
    authors = {"post_norm": separate, "activation_function": activation}
    config.update(authors | {"action_tanh": not choices})
    control = ControlModel(
        model=_filled(path, control_class(separate), config, weights),
        **settings_of(facts | {"choices": list(choices)}, statistics or Path(path)),
    )
    check_sizes(control, control.env)
    return control


def _state(content: Any) -> dict[str, Tensor]:
    """The tensors of a Decision Transformer, which may be an entry of a checkpoint; else none."""
    if not isinstance(content, Mapping):
        return {}
    for one in (content, *content.values()):
        entries = one.items() if isinstance(one, Mapping) else ()
        # What trains on several devices and what compiles have prefixes, in either order.
        found = {
            str(name).replace("_orig_mod.", "").removeprefix("module."): value
            for name, value in entries
            if isinstance(value, Tensor)
        }
        if _MARK in found:
            return found
    return {}


def _check_plain(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are no arrays of real numbers in memory; masks may be of any kind."""
    for name, value in state.items():
        plain = value.layout is torch.strided and not value.is_nested and not value.is_meta
        if not (_BUFFERS.search(name) or (plain and value.is_floating_point())):
            kind = f"{value.dtype} on {value.device}, laid out as {value.layout}"
            raise UserError(f"{path}: {name!r} is of {kind}; save plain tensors of real numbers")


def _of_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = {name: re.sub(r"^transformer\.", "encoder.", name) for name in state}
    return {theirs: state[name] for name, theirs in names.items() if not _BUFFERS.search(name)}


def _of_min(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    apart: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        layer = _LAYER.fullmatch(name)
        if _BUFFERS.search(name):
            continue
        if layer is None:
            first, _, rest = name.partition(".")
            weights[f"{_RENAMED.get(first, first)}.{rest}"] = value
            continue
        module, _, kind = layer[2].rpartition(".")
        ours = f"encoder.h.{layer[1]}"
        if part := re.fullmatch(r"attention\.([qkv])_net", module):
            apart.setdefault(f"{ours}.attn.c_attn.{kind}", {})[part[1]] = value
        elif module in _LINEAR:
            weights[f"{ours}.{_LINEAR[module]}.{kind}"] = _turned(value)
        else:
            weights[f"{ours}.{_NORMS.get(module, module)}.{kind}"] = value
    joined = {
        name: _turned(torch.cat([parts[which] for which in "qkv"]))
        for name, parts in apart.items()
        if set(parts) == set("qkv") and len({part.shape for part in parts.values()}) == 1
    }
    return weights | joined


def _turned(value: Tensor) -> Tensor:
    """Of a Linear as of a Conv1D."""
    return value.T if value.ndim == 2 else value


def _context(state: Mapping[str, Tensor]) -> dict[str, int]:
    """The steps that its mask has room for, where it has one: three tokens each."""
    masks = [value for name, value in state.items() if name.endswith(".attention.mask")]
    return {"context": masks[0].shape[-1] // 3} if masks and masks[0].ndim else {}


def _config(
    path: str | Path, weights: Mapping[str, Tensor], heads: int
) -> DecisionTransformerConfig:
    """What the shapes say of the model."""
    needed = (_MARK, "embed_state.weight", "embed_action.weight", "encoder.h.0.mlp.c_fc.weight")
    _refuse_missing(path, [name for name in needed if name not in weights])
    for name in needed:
        if weights[name].ndim != 2:
            raise UserError(f"{path}: {name!r} is no matrix, as in every known layout")
    rows, hidden = weights[_MARK].shape
    if heads < 1 or hidden % heads:
        raise UserError(f"--heads is {heads}; use a divisor of {hidden}, the width of {path}")
    layers = {found[1] for name in weights if (found := _OURS.match(name))}
    sizes: dict[str, Any] = {
        "state_dim": weights["embed_state.weight"].shape[1],
        "act_dim": weights["embed_action.weight"].shape[1],
        "hidden_size": hidden,
        "n_inner": weights["encoder.h.0.mlp.c_fc.weight"].shape[1],
        "n_layer": len(layers),
        "n_head": heads,
        "max_ep_len": rows,
        # Every position id is zero, so one row of this table is used.
        "n_positions": 1,
    }
    check_config(Path(path), sizes)
    # The defaults lie outside the vocabulary of one token.
    return DecisionTransformerConfig(**sizes, bos_token_id=None, eos_token_id=None)


def _filled(
    path: str | Path,
    kind: type[DecisionTransformerModel],
    config: DecisionTransformerConfig,
    weights: Mapping[str, Tensor],
) -> DecisionTransformerModel:
    """A model with these weights."""
    with torch.device("meta"):
        own = kind(config).state_dict()
    # Zero where a layout has none; the first row is added to every token.
    tables = {name: torch.zeros(own[name].shape) for name in _TABLES}
    first = {name: weights[name][:1] for name in _TABLES if name in weights and weights[name].ndim}
    weights = tables | dict(weights) | first
    _refuse_missing(path, sorted(own.keys() - weights.keys()))
    for name, value in weights.items():
        if name not in own:
            raise UserError(f"{path} has {name!r}, which is in neither known layout; {_REMEDY}")
        stored = value.untyped_storage().nbytes() // value.element_size()
        if value.shape != own[name].shape or stored < value.numel():
            raise UserError(
                f"{path}: {name!r} has shape {tuple(value.shape)} instead of "
                f"{tuple(own[name].shape)}, or fewer numbers than that; {_REMEDY}"
            )
        if not value.float().isfinite().all():
            raise UserError(f"{path}: {name!r} holds NaN or infinity; {_REMEDY}")
    model = kind(config)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.eval()


def _refuse_missing(path: str | Path, names: Sequence[str]) -> None:
    if names:
        raise UserError(f"{path} has no {names[0]!r}, as transformers calls it; {_REMEDY}")

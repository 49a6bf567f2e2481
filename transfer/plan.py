"""What a cache will weigh, full and pruned, from a model's configuration alone.

No weights are loaded: a model without any says what is cached (`transfer.weightless`). The sums are
those of `transfer.cache.footprint`, which tests compare with measured bytes.
"""

import json
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, PreTrainedConfig

from transfer.adapters.gguf_files import gguf_config
from transfer.adapters.kinds import Source
from transfer.adapters.loading import first_line, quiet
from transfer.arguments import typed
from transfer.attachment.memory import attach
from transfer.cache.footprint import held_next, peak
from transfer.errors import UserError
from transfer.evaluation.tables import WIDTH, new_table
from transfer.known_models import KNOWN
from transfer.plan_options import Plan
from transfer.weightless import CachedLayer, cached_layers, weightless


@dataclass(frozen=True)
class DevicePlan:
    """Bytes on one device.

    Attributes:
        device: its number.
        layers: how many layers it holds, all of them.
        pruned_layers: how many are pruned.
        full: keys, values and states of the stock cache after the prompt, of attention windows only
            themselves.
        cache: keys, values and positions of the pruned one when it begins to generate, and what
            the other layers hold.
        state: what the policy holds beside them.
        peak: the most that is held while the prompt is read.
    """

    device: int
    layers: int
    pruned_layers: int
    full: int
    cache: int
    state: int
    peak: int


@typed
def plan_cache(plan: Plan) -> list[DevicePlan]:
    """One entry a device (a rank, under tensor parallelism: all are alike).

    Raises:
        UserError: no such model, or its heads or layers cannot be shared out that way.
    """
    layers = plan_layers(plan)
    if plan.devices > len(layers):
        raise UserError(f"devices {plan.devices}: {plan.model} has {len(layers)} layers to share")
    each, more = divmod(len(layers), plan.devices)
    cuts = [device * each + min(device, more) for device in range(plan.devices + 1)]
    shares = [layers[start:stop] for start, stop in pairwise(cuts)]
    return [plan_device(number, share, plan) for number, share in enumerate(shares)]


def plan_layers(plan: Plan, refuse: bool = True) -> list[CachedLayer]:
    """What each layer of the plan's model caches, on each of its ranks.

    Raises:
        UserError: no such model, its heads cannot be shared out that way, or (unless `refuse` is
            False) attach would refuse it.
    """
    config = _config(plan.model, plan.trust_remote_code)
    config.dtype = getattr(torch, plan.dtype) if plan.dtype else config.dtype
    _check_ranks(config, plan)
    model = weightless(config, plan.trust_remote_code)
    if refuse:
        attach(model, "full").detach()
    layers = cached_layers(model, plan.batch, plan.tensor_parallel)
    if plan.tensor_parallel > 1 and any(layer.state for layer in layers):
        raise UserError(
            f"tensor_parallel {plan.tensor_parallel}: how {plan.model} shares out its recurrent "
            "states is not known; plan it with --devices"
        )
    return layers


def plan_device(number: int, layers: list[CachedLayer], plan: Plan) -> DevicePlan:
    """What a device weighs that has these layers."""
    pruned, pruning = [layer for layer in layers if layer.pruned], plan.pruning
    # A layer may have a state beside its attention.
    fixed = sum(layer.state for layer in pruned)
    fixed += sum(layer.full_bytes(plan.tokens) for layer in layers if not layer.pruned)
    shapes = [(layer.shape, layer.depth) for layer in pruned if layer.shape]
    # The first generated token is when the room for another window of the prompt is given back.
    rest = [held_next(shape, pruning, plan.tokens, depth) for shape, depth in shapes]
    most = [peak(shape, pruning, plan.tokens, depth) for shape, depth in shapes]
    return DevicePlan(
        device=number,
        layers=len(layers),
        pruned_layers=len(pruned),
        full=sum(layer.full_bytes(plan.tokens) for layer in layers),
        cache=sum(each.tokens for each in rest) + fixed,
        state=sum(each.state for each in rest),
        peak=sum(each.total for each in most) + fixed,
    )


def _check_ranks(config: PreTrainedConfig, plan: Plan) -> None:
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    for name, count in (("heads", heads), ("KV heads", kv_heads)):
        if count % plan.tensor_parallel:
            raise UserError(
                f"tensor_parallel {plan.tensor_parallel} does not divide the {count} {name} of "
                f"{plan.model}"
            )


def _config(model: str, trust_remote_code: bool) -> PreTrainedConfig:
    """The text decoder's configuration, with the type that the model is loaded as."""
    if model in KNOWN:
        return KNOWN[model].config
    try:
        source = Source(model)
        if source.gguf is not None:
            config = gguf_config(source.gguf)
        else:
            with quiet():
                config = AutoConfig.from_pretrained(
                    source.path, trust_remote_code=trust_remote_code
                )
    except UserError as error:
        raise UserError(f"{error} (sizes are known of {', '.join(KNOWN)}, too)") from error
    # Configurations of damaged files raise what they like, as TypeError and their own errors.
    except Exception as error:
        raise UserError(
            f"there is no configuration of {model} ({first_line(error)}); give a folder, a hub id, "
            f"a shipped model or one of {', '.join(KNOWN)}"
        ) from error
    text = config.get_text_config(decoder=True)
    if not hasattr(text, "num_attention_heads"):
        raise UserError(f"{model} has no attention heads, so there is no cache to plan")
    text.dtype = text.dtype or config.dtype or torch.float32
    if source.shipped:
        # Stored in half the space, and widened when they are loaded.
        text.dtype = torch.float32
    return text


def print_plan(plan: Plan) -> None:
    """A table with a row for each device, or JSON."""
    devices = plan_cache(plan)
    if plan.json:
        content = {"plan": asdict(plan), "devices": [asdict(device) for device in devices]}
        print(json.dumps(content, indent=1))
    else:
        Console(width=WIDTH).print(_table(plan, devices))


def _table(plan: Plan, devices: list[DevicePlan]) -> Table:
    ranks = f", one of {plan.tensor_parallel} ranks" if plan.tensor_parallel > 1 else ""
    share = isinstance(plan.budget, float)
    kept = f"{plan.budget:.0%}" if share else f"{plan.budget} tokens a head"
    title = (
        f"{plan.model}, {plan.tokens} tokens, {kept} kept by {plan.policy} every "
        f"{plan.update_interval}{ranks}; GB (10^9 bytes)"
    )
    columns = ["device", "layers", "pruned", "full", "cache", "state", "of full", "peak", "of full"]
    rows = [_row(str(device.device), device) for device in devices]
    if len(devices) > 1:
        numbers = [list(asdict(device).values())[1:] for device in devices]
        rows.append(_row("all", DevicePlan(-1, *map(sum, zip(*numbers)))))
    return new_table(title, columns, rows)


def _row(name: str, device: DevicePlan) -> list[str]:
    def share(size: int) -> str:
        # Layers without attention hold nothing.
        return f"{size / device.full:.3f}" if device.full else "-"

    sizes = (f"{size / 1e9:.3f}" for size in (device.full, device.cache, device.state))
    peak = f"{device.peak / 1e9:.3f}"
    counts = (str(device.layers), str(device.pruned_layers))
    return [name, *counts, *sizes, share(device.cache + device.state), peak, share(device.peak)]

"""What a cache will weigh, full and pruned, from a model's configuration alone.

No weights are loaded: a model without any says what is cached (`transfer.weightless`). The sums are
those of `transfer.cache.footprint`, which tests compare with measured bytes.
"""

import json
import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, PreTrainedConfig

from transfer.adapters.gguf_files import gguf_config
from transfer.adapters.kinds import Source
from transfer.adapters.loading import first_line, quiet
from transfer.arguments import check_fields, typed
from transfer.attachment.memory import attach
from transfer.cache.footprint import held, peak
from transfer.cache.policy import Pruning
from transfer.errors import UserError, check_at_least, unknown_name
from transfer.evaluation.tables import WIDTH, new_table
from transfer.known_models import KNOWN
from transfer.namm.network import NAMM, NAMMConfig
from transfer.policies import POLICIES, get_policy
from transfer.weightless import CachedLayer, cached_layers, weightless


@dataclass(frozen=True)
class Plan:
    """Say what a model's cache will weigh, full and pruned, without loading the model.

    Args:
        model: llama-3-70b, gemma-3-27b, bamba-9b or another whose sizes are known, a shipped model,
            a folder, a GGUF file or a hub id; only its configuration is read.
        context: tokens of the prompt, such as 4096, 128k (times 1024) or 1M (times 1024 again).
        budget: share of the tokens that each head keeps, or a number of tokens (4096).
        policy: who prunes; the state it keeps counts.
        update_interval: tokens between two updates.
        batch: sequences.
        dtype: of the cache; by default the one that the configuration names.
        devices: the layers are shared out in order, as device_map does it.
        tensor_parallel: ranks that share the heads of each layer.
        trust_remote_code: run the Python that a model from outside brings.
        json: print numbers in bytes as JSON, and nothing else.

    Raises:
        UserError: a value is out of range or does not fit the model.
    """

    model: str = "llama-3-70b"
    context: str = "128k"
    budget: Annotated[int | float, tyro.conf.arg(aliases=["--kept"])] = 0.25
    policy: str = "namm"
    update_interval: Annotated[int, tyro.conf.arg(aliases=["--n-up"])] = 512
    batch: int = 1
    dtype: str | None = None
    devices: int = 1
    tensor_parallel: int = 1
    trust_remote_code: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        self.tokens  # noqa: B018  (says what is wrong with it)
        check_at_least(1, self, "batch", "devices", "tensor_parallel", "update_interval")
        if self.budget <= 0 or (isinstance(self.budget, float) and self.budget > 1):
            raise UserError(
                f"budget {self.budget}: use a share above 0, up to 1.0, or a whole number of tokens"
            )
        pruning = sorted(set(POLICIES) - {"full"})
        if self.policy not in pruning:
            raise unknown_name("policy that prunes", self.policy, pruning)
        if self.dtype is not None:
            _dtype(self.dtype)

    @property
    def tokens(self) -> int:
        """The context as a number."""
        match = re.fullmatch(r"([0-9]{1,10})([km]?)", self.context.lower())
        if not match or not int(match[1]):
            raise UserError(
                f"context {self.context!r}: use a number of tokens, such as 4096, 128k or 1M"
            )
        return int(match[1]) * 1024 ** ("", "k", "m").index(match[2])

    @property
    def pruning(self) -> Pruning:
        """The settings the cache is pruned under."""
        settings = {"namm": NAMM(NAMMConfig())} if self.policy == "namm" else {}
        policy = get_policy(self.policy, **settings)
        return Pruning(policy, self.update_interval, self.budget)


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
    config.dtype = _dtype(plan.dtype) if plan.dtype else config.dtype
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
    rest = [held(shape, pruning, plan.tokens + 1, depth) for shape, depth in shapes]
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


def _dtype(name: str) -> torch.dtype:
    known = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
    if name not in known:
        raise unknown_name("dtype", name, known)
    return known[name]


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

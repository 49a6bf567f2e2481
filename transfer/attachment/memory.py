"""`attach`: a policy laid on a model, without touching the model's code."""

from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import ref

from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from transfer.arguments import typed
from transfer.attachment.adapter import Adapter, get_adapter, pruned_layer
from transfer.attachment.identity import identity
from transfer.attachment.report import Report
from transfer.cache.attention import IMPLEMENTATION, register
from transfer.cache.binding import Binding, Tie
from transfer.cache.cache import PrunedCache
from transfer.cache.forward import watch
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Policy, Pruning
from transfer.cache.saved import SavedCache
from transfer.errors import UserError
from transfer.namm.config import DEFAULT_NAMM
from transfer.namm.network import NAMM
from transfer.policies import POLICIES, get_policy, of_policy


class Memory:
    """A model whose cache is pruned, until `detach`. Made by `attach`.

    Attributes:
        adapter: of the model.
        pruning: the settings.
        cache: the cache made last.
    """

    @typed
    def __init__(self, adapter: Adapter, pruning: Pruning) -> None:
        self.adapter = adapter
        self.pruning = pruning
        self.cache: PrunedCache | None = None
        ties = [getattr(module, "transfer_tie", None) for module in adapter.attention_modules]
        if any(tie is not None and tie.binding is None for tie in ties):
            raise UserError(
                "this model is a copy of an attached one; copy a model before it is attached, or "
                "after it is detached"
            )
        if any(ties) or adapter.config._attn_implementation == IMPLEMENTATION:
            raise UserError("this model is attached already; detach it before attaching it again")
        if pruning.compares_heads and (adapter.model.tp_size or 1) > 1:
            raise UserError(
                f"{pruning.policy.name} with {pruning.eviction} eviction, budgets shared by "
                f"{pruning.shared_by}, compares all heads of a layer, and a tensor parallel "
                "process has only some of them; shard by layers instead (device_map)"
            )
        # Refuses a model without a layer to prune before anything is changed.
        layers = PrunedCache(adapter.config, pruning).layers
        stock = {i for i, layer in enumerate(layers) if not isinstance(layer, PrunedLayer)}
        depths = {layer.index: layer.depth for layer in layers if isinstance(layer, PrunedLayer)}
        register()
        self._before: str | None = adapter.set_attention(IMPLEMENTATION)
        self._local = frozenset(adapter.devices)
        told = partial(_identity, ref(adapter.model))
        self._binding = Binding(adapter.config, pruning, IMPLEMENTATION, depths, told)
        for module in adapter.attention_modules:
            tie = Tie(self._binding, pruned=module.layer_idx not in stock)
            module.transfer_tie = tie  # type: ignore[assignment]
        self._hooks = [hook for module in adapter.decoders for hook in watch(module, self._binding)]

    def new_cache(self) -> PrunedCache:
        """An empty cache for one batch of sequences; pass it as `cache`."""
        if self._before is None:
            raise UserError("the model is detached; attach it again to make a cache")
        cache = PrunedCache(self.adapter.config, self.pruning, self._binding, self._local)
        self.cache = cache
        return cache

    @typed
    def load_cache(self, file: str | Path) -> PrunedCache:
        """A cache that `PrunedCache.save` wrote: it goes on where that one was, to the same bits.

        Pass it as `cache`, with the tokens that went through it and the new ones behind them.

        Raises:
            UserError: there is no such file, it is cut or changed, or it is of another model (its
                configuration, its weights), another policy or other settings.
        """
        saved = SavedCache.read(Path(file))
        saved.check(self._binding.identity())
        cache = self.new_cache()
        cache.fill(saved, self.adapter.devices)
        return cache

    def report(self) -> Report:
        """What the cache made last holds: tokens per layer and head, bytes, beside the full cache.

        Raises:
            UserError: nothing ran through it yet.
        """
        return Report.of(self._used_cache())

    @typed
    def kept(self, layer: int) -> list[list[Int[Tensor, " tokens"]]]:
        """Which tokens one layer of the cache made last holds, `[batch][kv_head]`.

        Returns:
            Positions in the input from 0 on, ascending; padding on the left counts, and is never
            held.

        Raises:
            UserError: the layer is not pruned, or nothing ran through the cache yet.
        """
        pruned = pruned_layer(self._used_cache(), layer)
        return [pruned.positions_of(sequence) for sequence in range(pruned.batch_size)]

    @typed
    def attention(self, layer: int) -> Float[Tensor, "batch heads queries tokens"]:
        """`Adapter.attention` of the cache made last."""
        return self.adapter.attention(self._used_cache(), layer)

    def detach(self) -> None:
        """Give the model its own attention back."""
        if self._before is None:
            return
        self.adapter.set_attention(self._before)
        self._before, self._binding.attached = None, False
        for module in self.adapter.attention_modules:
            del module.transfer_tie
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> "Memory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()

    def _used_cache(self) -> PrunedCache:
        if self.cache is None or not any(layer.seen for layer in self.cache.pruned):
            raise UserError(
                "nothing went through the cache yet; "
                "run the model with cache=memory.new_cache() first"
            )
        return self.cache


def _spelled(policy: str) -> NAMM | str:
    """A NAMM by its name, as the command line spells it; other policies as they are."""
    name, colon, rest = policy.partition(":")
    if name not in POLICIES.built_in or (name != "namm" and not colon):
        return policy
    if "=" in rest or name != "namm":
        raise UserError(
            f"{policy!r}: what stands behind the colon of a policy's name is given as arguments "
            f'here, as in attach(model, "{name}", budget=32)'
        )
    return NAMM.from_pretrained(rest or DEFAULT_NAMM)


def _identity(model: ref[PreTrainedModel]) -> dict[str, Any]:
    """Of the model, which a cache must not keep alive."""
    alive = model()
    if alive is None:
        raise UserError("the model of this cache is gone; save the cache while its model is there")
    return identity(get_adapter(alive))


@typed
def attach(
    model: PreTrainedModel,
    policy: Policy | NAMM | str,
    update_interval: int | None = None,
    budget: int | float | None = None,
    eviction: str = "exact",
    expose_attention: bool = False,
    n_up: int | None = None,
    keep_recent: int | None = None,
    sinks: int | None = None,
    share: str | None = None,
    share_floor: int | float | None = None,
    threshold: int | float | None = None,
    **settings: Any,
) -> Memory:
    """Lay a policy on a model: its cache is pruned from now on, in every way it can be called.

    Args:
        model: any transformers model with the attention interface.
        policy: a NAMM, a policy, or a policy's name; `namm:universal` is a NAMM by its name, and
            `namm` the default one.
        update_interval: tokens between two updates (paper: 512). None: fixed at the first call of
            each cache from the tokens of that call, a power of two from 32 to 512 (see
            `Pruning.fitted`). Only a number makes results independent of how a prompt is cut into
            calls.
        budget: tokens each head keeps, or a fraction (a float up to 1) of the tokens seen; turns
            any policy into top-k by its score. None: the policy's own threshold.
        eviction: `exact` or `reference`, see `Pruning`.
        expose_attention: remember all queries of a window, for `Memory.attention`.
        n_up: the paper's name for `update_interval`, which it replaces.
        keep_recent: newest tokens of each head that never leave, whatever the policy says; see
            `Pruning`. (`PrunedCache.protect` names any others.)
        sinks: first tokens that never leave; of `recency`, given by name, how many it keeps.
        share: `head` (by default), `layer` (the heads of a layer share their budgets) or `model`
            (one threshold, no budget); see `Pruning`.
        share_floor: of a layer's budget, the part of the even share (a quarter) that each head
            keeps for itself.
        threshold: tokens that score below it leave, where there is no budget; None: the policy's.
        settings: of the policy, when given by name or as a NAMM: `state="byte"` stores what a NAMM
            keeps of a token in a byte a number.

    Returns:
        A context manager; at its end, or at `detach()`, the model is as it was.

    Raises:
        UserError: unknown policy, a setting of the wrong type or out of range, or a model that
            would be silently wrong.
    """
    asked = {"keep_recent": keep_recent, "sinks": sinks}
    asked |= {"share": share, "share_floor": share_floor, "threshold": threshold}
    if isinstance(policy, str) and "namm" not in settings:
        policy = _spelled(policy)
    own, asked = of_policy(policy if isinstance(policy, str) else None, asked)
    if isinstance(policy, str):
        policy = get_policy(policy, **settings, **own)
    elif isinstance(policy, NAMM):
        policy = get_policy("namm", namm=policy, **settings)
    elif settings:
        raise UserError(
            f"{', '.join(settings)}: settings go with a policy's name, not with a policy"
        )
    interval = update_interval if n_up is None else n_up
    pruning = Pruning(policy, interval, budget, eviction, expose_attention, False, **asked)
    return Memory(get_adapter(model), pruning)

"""Does compression really happen on this model, and is it exact? `check_adapter` finds out.

It runs one input as the stock model, as the pruned model, and through a dense attention with the
visibility of every token written out as a mask: in one call, and in pieces as decoding does. How
far apart rounding alone may bring two runs is not assumed but measured, with a dense run whose
attention is off by as much as rounding is. So what can be found depends on the precision: an error
of a thousandth in one head of one layer in float32 and float64, in bfloat16 and float16 only what
is larger than their own rounding.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from transfer.arguments import typed
from transfer.attachment.adapter import Adapter, get_adapter
from transfer.attachment.memory import Memory
from transfer.attachment.pieces import SINGLE, Pieces
from transfer.cache import dense
from transfer.cache.cache import PrunedCache
from transfer.cache.policy import Pruning
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError
from transfer.policies.full import Full
from transfer.policies.random import Random

#: Updates of the pruned run, and the sequences and tokens of the inputs made here.
UPDATES, BATCH, TOKENS = 5, 2, 164
#: How often the error of one rounding a layer may be exceeded. Over a hundred families in four
#: precisions, right models have 0.2 to 1.3 times that error.
ROUNDINGS = 3
#: First tokens that stay where the budget has room for them. Without the one that most attention
#: falls on, deep models amplify every rounding, behind which errors would hide.
SINKS = 4
#: Of float64, more than one rounding: many models compute norms in float32 all the same, and that
#: hides a difference of 1e-16, or makes one of 1e-8 of it, by chance.
_FLOAT64 = 2.0**-40


@dataclass(frozen=True)
class Sample(Random):
    """Random tokens, and the first ones."""

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 1"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 1"]]:
        """The tokens' priorities."""
        assert window.budget is not None
        scores, state = super().score(window, state)
        sinks = (window.budget - 1).clamp(max=SINKS)[:, None, None]
        return scores.masked_fill(window.positions - window.first < sinks, torch.inf), state


@dataclass(frozen=True)
class Check:
    """Outcome of `check_adapter`.

    Errors are root mean squares over all outputs, relative to that of the outputs themselves: with
    rounding alone they are nearly the same multiple of it in every model, which maxima are not.

    Attributes:
        model_type: of the model.
        layers, pruned_layers: layers of the cache, and how many of them are pruned.
        full_error: between the stock model and ours, nothing evicted.
        pruned_error: between the pruned model and the dense forward with masks.
        step_error: the larger of both when the tokens come in pieces and one at a time.
        effect: between the pruned and the stock model (0 would mean that nothing happened).
        kept: share of the tokens held at the end.
        bytes, full_bytes: held at the end, and by the stock cache.
        tolerance: of the errors.
        restored: whether the model, detached, gives the same bits as before.
    """

    model_type: str
    layers: int
    pruned_layers: int
    full_error: float
    pruned_error: float
    step_error: float
    effect: float
    kept: float
    bytes: int
    full_bytes: int
    tolerance: float
    restored: bool

    @property
    def ok(self) -> bool:
        """Whether tokens really leave, the outputs are exact, and the model is left as it was."""
        error = max(self.full_error, self.pruned_error, self.step_error)
        exact = error <= self.tolerance and self.restored
        return exact and self.kept < 1 and self.effect > 2 * error

    def __str__(self) -> str:
        verdict = "pruned and exact" if self.ok else "NOT TO BE TRUSTED"
        changed = "" if self.restored else ", changed by it for good"
        return (
            f"{self.model_type}: {verdict}{changed}; {self.pruned_layers} of {self.layers} layers, "
            f"{self.kept:.0%} kept, {self.bytes} of {self.full_bytes} bytes, "
            f"error {self.pruned_error:.1e} pruned, {self.full_error:.1e} full, "
            f"{self.step_error:.1e} in steps, {self.tolerance:.1e} allowed"
        )


@typed
@torch.no_grad()
def check_adapter(
    model: PreTrainedModel,
    inputs: Mapping[str, Any] | None = None,
    update_interval: int | None = None,
) -> Check:
    """Run a model full, pruned and masked, and compare.

    Args:
        model: any transformers model with the attention interface.
        inputs: keyword arguments of the model: `input_ids` or `inputs_embeds`, and whatever else it
            needs. Some hundred tokens are enough, as attention is written out. None: pseudo-random
            ones.
        update_interval: tokens between two updates; None: five updates, the last one while tokens
            come one at a time.

    Raises:
        UserError: pruning this model would be silently wrong; the cause is named. Or it cannot be
            run on these inputs, or an argument is of the wrong type or out of range.
    """
    was_training = model.training
    model.eval()
    try:
        adapter = get_adapter(model)
        # Refuses what cannot be pruned, before inputs are tried on it.
        Memory(adapter, Pruning(Full())).detach()
        pieces = Pieces(adapter, adapter.probe(BATCH, TOKENS) if inputs is None else inputs)
        stock = _stock(pieces, "random token ids" if inputs is None else "these inputs")
        return _check(adapter, pieces, stock, update_interval)
    finally:
        model.train(was_training)


def _stock(pieces: Pieces, what: str) -> Tensor:
    try:
        return pieces.outputs(pieces.whole, None)
    # Somebody else's model may raise anything.
    except Exception as error:
        raise UserError(
            f"the model, not attached, cannot be run on {what} ({type(error).__name__}: {error}); "
            "pass what it needs as inputs, e.g. check_adapter(model, inputs={...})"
        ) from error


def _check(adapter: Adapter, pieces: Pieces, stock: Tensor, update_interval: int | None) -> Check:
    interval = update_interval or (pieces.tokens - SINGLE // 2) // UPDATES
    whole, steps = pieces.whole, pieces.stepwise
    compared = _compared(stock, pieces)
    size = float(_size(stock[compared]))

    def apart(one: Tensor, other: Tensor) -> float:
        return float(_size((one - other)[compared])) / size

    nothing_leaves = Pruning(Full(), interval)
    full, full_stepwise = (_pruned(adapter, pieces, n, nothing_leaves)[0] for n in (whole, steps))
    stock_stepwise = pieces.outputs(steps, DynamicCache(config=adapter.config))
    random = Pruning(Sample(), interval, 0.25, trace=True)
    pruned, cache = _pruned(adapter, pieces, whole, random)
    pruned_stepwise, stepwise_cache = _pruned(adapter, pieces, steps, random)
    masked = _masked(adapter, pieces, whole, cache)
    # With padding, `random` draws in another order when tokens come in pieces.
    masked_stepwise = _masked(adapter, pieces, steps, stepwise_cache)
    rounding = _rounding(adapter)
    noisy = _masked(adapter, pieces, whole, cache, rounding)
    lengths = [n for layer in cache.kept() for sequence in layer for n in sequence]
    return Check(
        model_type=adapter.model.config.model_type,
        layers=len(cache.layers),
        pruned_layers=len(cache.pruned),
        full_error=apart(full, stock),
        pruned_error=apart(pruned, masked),
        step_error=max(
            apart(full_stepwise, stock_stepwise), apart(pruned_stepwise, masked_stepwise)
        ),
        effect=apart(pruned, stock),
        kept=sum(lengths) / len(lengths) / pieces.tokens,
        bytes=cache.bytes(),
        full_bytes=cache.full_bytes(),
        tolerance=ROUNDINGS * max(apart(noisy, masked), rounding),
        restored=torch.equal(pieces.outputs(whole, None), stock),
    )


def _compared(stock: Tensor, pieces: Pieces) -> Tensor:
    """Which outputs count: those of real tokens that are no stand-ins for minus infinity."""
    huge = torch.finfo(stock.dtype).max / 2
    compared = (stock.abs() < huge) & pieces.valid.to(stock.device)[..., None]
    if not compared.any():
        raise UserError("the model, not attached, puts out no finite number; look at its weights")
    return compared


def _size(outputs: Tensor) -> Tensor:
    """Root mean square."""
    exact = torch.promote_types(outputs.dtype, torch.float32)
    return outputs.to(exact).square().mean().sqrt()


def _rounding(adapter: Adapter) -> float:
    """By how much attention may be off; that of transformers' own `eager` is never finer."""
    dtype = adapter.model.dtype
    if dtype == torch.float64 and adapter.config._attn_implementation != "eager":
        return _FLOAT64
    return max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


def _pruned(
    adapter: Adapter, pieces: Pieces, sizes: list[int], pruning: Pruning
) -> tuple[Tensor, PrunedCache]:
    with Memory(adapter, pruning) as memory:
        cache = memory.new_cache()
        return pieces.outputs(sizes, cache), cache


def _masked(
    adapter: Adapter, pieces: Pieces, sizes: list[int], traced: PrunedCache, noise: float = 0.0
) -> Tensor:
    """Outputs under the visibility that a traced cache gave every query."""
    cache = DynamicCache(config=adapter.config) if len(sizes) > 1 else None
    with _dense(adapter, pieces, traced, noise):
        return pieces.outputs(sizes, cache)


@contextmanager
def _dense(adapter: Adapter, pieces: Pieces, traced: PrunedCache, noise: float) -> Iterator[None]:
    dense.register()
    before = adapter.set_attention(dense.IMPLEMENTATION)
    visible = {
        layer.index: dense.visibility(layer, pieces.tokens, pieces.valid) for layer in traced.pruned
    }
    modules: list[Any] = [m for m in adapter.attention_modules if m.layer_idx in visible]
    for module in modules:
        module.transfer_visibility, module.transfer_noise = visible[module.layer_idx], noise
    try:
        yield
    finally:
        for module in modules:
            del module.transfer_visibility, module.transfer_noise
        adapter.set_attention(before)

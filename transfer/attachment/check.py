"""Does compression really happen on this model, and is it exact? `check_adapter` finds out.

It runs one probe three ways: the stock model, the pruned model, and a dense forward pass with the
visibility of every token written out as a mask.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfer.arguments import typed
from transfer.attachment.adapter import Adapter, Probe, get_adapter
from transfer.attachment.memory import Memory
from transfer.cache import dense
from transfer.cache.cache import PrunedCache
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.policies.full import Full
from transfer.policies.random import Random


@dataclass(frozen=True)
class Check:
    """Outcome of `check_adapter`.

    Attributes:
        model_type: of the model.
        layers, pruned_layers: attention layers, and how many of them are pruned.
        full_error: largest output difference between the stock model and ours, nothing evicted.
        pruned_error: the same between the pruned model and the dense forward with masks.
        effect: how far pruning moved the outputs (0 would mean that nothing happened).
        kept: share of the tokens held at the end.
        bytes, full_bytes: held at the end, and by the stock cache.
        tolerance: of the errors, relative to the largest output.
    """

    model_type: str
    layers: int
    pruned_layers: int
    full_error: float
    pruned_error: float
    effect: float
    kept: float
    bytes: int
    full_bytes: int
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether tokens really leave and the outputs are exact."""
        error = max(self.full_error, self.pruned_error)
        return error <= self.tolerance and self.kept < 1 and self.effect > 2 * error

    def __str__(self) -> str:
        verdict = "pruned and exact" if self.ok else "NOT TO BE TRUSTED"
        return (
            f"{self.model_type}: {verdict}; {self.pruned_layers} of {self.layers} layers, "
            f"{self.kept:.0%} kept, {self.bytes} of {self.full_bytes} bytes, "
            f"error {self.pruned_error:.1e} pruned, {self.full_error:.1e} full"
        )


@typed
@torch.no_grad()
def check_adapter(model: PreTrainedModel, tokens: int = 160, update_interval: int = 32) -> Check:
    """Run a model full, pruned and masked, and compare.

    Args:
        model: any transformers model with the attention interface.
        tokens: length of the probe.
        update_interval: update interval of the probe.

    Raises:
        UserError: pruning this model would be silently wrong; the cause is named. Or an argument is
            of the wrong type or out of range.
    """
    if tokens <= update_interval:
        raise UserError(
            f"a probe of {tokens} tokens is never pruned every {update_interval}; use more tokens"
        )
    was_training = model.training
    model.eval()
    try:
        return _check(get_adapter(model), tokens, update_interval)
    finally:
        model.train(was_training)


def _check(adapter: Adapter, tokens: int, update_interval: int) -> Check:
    probe = adapter.probe(2, tokens)
    stock = probe(None)
    full, _ = _pruned(adapter, probe, Pruning(Full(), update_interval))
    pruned, cache = _pruned(adapter, probe, Pruning(Random(), update_interval, 0.25, trace=True))
    masked = _masked(adapter, probe, cache, tokens)
    size = float(stock.abs().max())
    lengths = [n for layer in cache.kept() for sequence in layer for n in sequence]
    return Check(
        model_type=adapter.model.config.model_type,
        layers=len(cache.layers),
        pruned_layers=len(cache.pruned),
        full_error=float((full - stock).abs().max()) / size,
        pruned_error=float((pruned - masked).abs().max()) / size,
        effect=float((pruned - stock).abs().max()) / size,
        kept=sum(lengths) / len(lengths) / tokens,
        bytes=cache.bytes(),
        full_bytes=cache.full_bytes(),
        # Two orders of magnitude of rounding through the layers, but never a wrong attention.
        tolerance=min(100 * torch.finfo(stock.dtype).eps, 0.1),
    )


def _pruned(adapter: Adapter, probe: Probe, pruning: Pruning) -> tuple[Tensor, PrunedCache]:
    with Memory(adapter, pruning) as memory:
        cache = memory.new_cache()
        return probe(cache), cache


def _masked(adapter: Adapter, probe: Probe, cache: PrunedCache, tokens: int) -> Tensor:
    """The probe's outputs under the visibility that the traced cache gave every query."""
    dense.register()
    before = adapter.set_attention(dense.IMPLEMENTATION)
    visible = {layer.index: dense.visibility(layer, tokens) for layer in cache.pruned}
    modules = [m for m in adapter.attention_modules if m.layer_idx in visible]
    for module in modules:
        module.transfer_visibility = visible[int(module.layer_idx)]  # type: ignore[assignment,arg-type]
    try:
        return probe(None)
    finally:
        for module in modules:
            del module.transfer_visibility
        adapter.set_attention(before)

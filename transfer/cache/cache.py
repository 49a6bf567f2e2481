"""The cache a model is given: `DynamicCache` with its full-attention layers replaced.

A forward pass is a step that all layers take or none: the cache knows which have taken it, refuses
to go on from the middle of one, and can go back to its beginning.
"""

from collections.abc import Collection, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionCacheLayerMixin,
)

from transfer.arguments import shown, typed
from transfer.cache.binding import Binding
from transfer.cache.forward import Pass, current
from transfer.cache.held import Held, over_layers
from transfer.cache.hybrid import PrunedHybridLayer
from transfer.cache.layer import PrunedLayer, another_batch
from transfer.cache.parked import Parked
from transfer.cache.policy import Depth, Pruning
from transfer.cache.protected import Protected
from transfer.cache.saved import SavedCache, packed, unpack, write_kept
from transfer.cache.stock import byte_steps, compact, held_bytes
from transfer.errors import UserError


class PrunedCache(DynamicCache):
    """Cache of one batch of sequences, pruned layer by layer while the model runs.

    Layers with an attention window or a recurrent state keep their stock cache: they already
    forget. Works only inside `attach(model, policy)`, whose attention function does the pruning.

    Args:
        config: of the text decoder.
        pruning: of every layer.
        binding: the attachment it belongs to; None: that of the model which runs it first.
        local: layers that run in this process; None: all.

    Attributes:
        stores_padding: False; later calls need no mask for padding of earlier ones.

    Raises:
        UserError: the model has no full-attention layer.
    """

    stores_padding = False

    def __init__(
        self,
        config: PreTrainedConfig,
        pruning: Pruning,
        binding: Binding | None = None,
        local: Collection[int] | None = None,
    ) -> None:
        super().__init__(config=config)
        self.layers = [_pruned(layer, pruning, index) for index, layer in enumerate(self.layers)]
        for place, one in enumerate(self.pruned):
            one.depth = Depth(place, len(self.pruned))
        if not self.pruned:
            raise UserError(
                f"{config.model_type} has no full-attention layer to prune; "
                "its cache is bounded already, use the model as it is"
            )
        self.binding = binding
        self._order = [
            index
            for index, layer in enumerate(self.layers)
            if isinstance(layer, CacheLayerMixin) and (local is None or index in local)
        ]
        # As they are before the first token.
        self._new = {
            index: deepcopy(layer)
            for index, layer in enumerate(self.layers)
            if not isinstance(layer, PrunedLayer)
        }
        # Of the step that is under way: how many layers have taken it, whether recurrent states
        # were touched, in which forward pass, what stock layers were before, and whether it ended.
        self._done, self._touched, self._ended = 0, False, False
        self._pass: Pass | None = None
        self._stock: dict[int, Any] = {}
        self._most_elsewhere = 0

    @property
    def pruned(self) -> list[PrunedLayer]:
        """The layers that are pruned."""
        return [layer for layer in self.layers if isinstance(layer, PrunedLayer)]

    @property
    def used(self) -> list[PrunedLayer]:
        """Those of them that have seen tokens: a rank of a pipeline runs only some."""
        return [layer for layer in self.pruned if layer.seen]

    @property
    def left_alone(self) -> list[Any]:
        """The layers that keep their stock cache."""
        return [layer for layer in self.layers if not isinstance(layer, PrunedLayer)]

    def kept(self) -> list[list[list[int]]]:
        """Tokens held, `[layer][batch][kv_head]`."""
        return [layer.kept() for layer in self.pruned]

    def held(self, sequence: int = 0) -> Held:
        """How much a sequence has held so far, from its first token on.

        Tokens are those of the layers that are pruned, bytes those of all; of a rank of a pipeline,
        of its layers.
        """
        if not self.used:
            return Held()
        found = over_layers([layer.held()[sequence] for layer in self.used])
        elsewhere = sum(byte_steps(layer, found.tokens) for layer in self.left_alone)
        share = elsewhere / self.used[0].batch_size
        return replace(found, byte_steps=found.byte_steps + share)

    def bytes(self) -> int:
        """Bytes that all layers hold: what is pruned with all its state, windows, and states."""
        return sum(layer.bytes() for layer in self.pruned) + self._bytes_elsewhere()

    def peak_bytes(self) -> int:
        """The most the layers held, each at its own worst moment between two of its calls.

        Not counted, as other memory of a forward pass, is what layers keep until its end to be able
        to go back: nothing, unless an update falls into the middle of a call, and then at most what
        they held before.
        """
        elsewhere = max(self._most_elsewhere, self._bytes_elsewhere())
        return sum(layer.peak_bytes for layer in self.pruned) + elsewhere

    def full_bytes(self) -> int:
        """Bytes the stock cache would hold after the same tokens, of windows only themselves."""
        return sum(layer.full_bytes() for layer in self.pruned) + self._bytes_elsewhere()

    def _bytes_elsewhere(self) -> int:
        return sum(map(held_bytes, self.left_alone))

    def policy_seconds(self) -> float:
        """Seconds spent observing, scoring and evicting."""
        return sum(layer.policy_seconds for layer in self.pruned)

    def count_from(self, first: int) -> None:
        """Number the tokens of all sequences from `first`, as if so many had come before.

        Updates come where a sequence has a multiple of the interval, so this shifts them.

        Raises:
            UserError: tokens have come already.
        """
        if any(layer.seen for layer in self.pruned):
            raise UserError("tokens are counted from the first on; call count_from before it comes")
        for layer in self.pruned:
            layer.first = first

    @torch.inference_mode(False)
    def protect(self, positions: Tensor | Sequence[Sequence[int]]) -> None:
        """Never evict these tokens from the pruned layers; adds to those protected before.

        They count within the budget, of which a fraction is never less than them. Attention masks
        still hide them, and `reset` forgets them.

        Args:
            positions: `[batch, n]`, in the input from 0 on as `Memory.kept` gives them; -1 stands
                for none, so that sequences may differ in number. A token can be protected before it
                comes, in a cache that is still empty too. Padding has no token to protect.

        Raises:
            UserError: a token was evicted already, more would be protected than the budget has, or
                the positions are no whole numbers with a row for each sequence.
        """
        self._check_whole()
        counts = (layer.sequences for layer in self.pruned)
        batch = next((count for count in counts if count is not None), None)
        more = Protected.of(positions, batch)
        together = [layer.protecting(more) for layer in self.pruned]
        for layer, protected in zip(self.pruned, together):
            layer.protected = protected

    # files

    @typed
    def save(self, file: str | Path) -> None:
        """Write all that is held to a safetensors file, from which `Memory.load_cache` goes on.

        Replies, logits and evictions are then those of this cache, bit for bit, in another process
        too. The file knows the model, by its configuration and its weights, and the pruning; tokens
        are not in it, as a cache never sees them.

        Raises:
            UserError: nothing went through yet, or a step was left in its middle; the cache
                remembers its updates (`Pruning.trace`); the model is one that cannot be told from
                others; or the file cannot be written.
        """
        binding = self._of_whole_model()
        if binding.pruning.trace:
            raise UserError("a cache that traces its updates cannot be saved; prune without trace")
        layers = {index: packed(layer) for index, layer in enumerate(self.layers)}
        SavedCache(Path(file), binding.identity(), layers, self._most_elsewhere).write()

    @typed
    def save_kept(self, file: str | Path) -> None:
        """Write which tokens the pruned layers hold, to a safetensors file, for stores of others.

        Of each layer N `layers.N.lengths`, `[batch, kv_heads]`, and `layers.N.positions`, those of
        all heads in a row: positions in the input from 0 on, ascending in each head. The metadata
        say under `seen` how many tokens of the input there were.

        Raises:
            UserError: nothing went through yet, a step was left in its middle, or the file cannot
                be written.
        """
        self._of_whole_model()
        write_kept(Path(file), self.used)

    # What is stored may be used outside inference mode too, so it must not be made inside.
    @torch.inference_mode(False)
    def fill(self, saved: SavedCache, devices: Mapping[int, torch.device]) -> None:
        """Let this cache, which is empty, hold what was saved.

        Args:
            saved: of the same model and pruning.
            devices: of each layer.
        """
        for index, part in saved.layers.items():
            if part[0]:
                unpack(self.layers[index], part, devices[index])
        self._most_elsewhere = saved.most_elsewhere

    def _of_whole_model(self) -> Binding:
        """The attachment, between two steps.

        Raises:
            UserError: there is none yet, nothing went through, or a step was left in its middle.
        """
        self._check_whole()
        if self._done or self._touched:
            raise self._half()
        if self.binding is None or not self.used:
            raise UserError(
                "nothing went through this cache yet in this process, so there is nothing to save; "
                "run its model with it first"
            )
        return self.binding

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Length and offset of a layer's mask; where it runs in another process, of one here."""
        self._check_attached()
        self._check_whole()
        own = [layer.index for layer in self.pruned if layer.index in self._order]
        elsewhere = own and layer_idx not in self._order
        return super().get_mask_sizes(query_length, own[0] if elsewhere else layer_idx)

    # a step

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Take the new keys and values of a layer; a pruned one hands keys to its attention alone.

        Raises:
            UserError: the model is not attached, a step was left in its middle, or the batch is
                another.
        """
        self._enter(layer_idx)
        self.check_batch(len(key_states))
        layer = self.layers[layer_idx]
        if isinstance(layer, PrunedLayer):
            return Parked.of(key_states, layer, self), value_states
        self._stock[layer_idx] = copy(layer)
        found = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if isinstance(layer, DynamicSlidingWindowLayer) and key_states.shape[2] > 1:
            compact(layer)
        self.leave()
        return found

    def get_conv_state(self, layer_idx: int, *args: Any, **kwargs: Any) -> Tensor | None:
        """As a stock cache does; models write into what they get."""
        self._touch()
        return super().get_conv_state(layer_idx, *args, **kwargs)

    def get_recurrent_state(self, layer_idx: int, *args: Any, **kwargs: Any) -> Tensor | None:
        """As a stock cache does; models write into what they get."""
        self._touch()
        return super().get_recurrent_state(layer_idx, *args, **kwargs)

    def update_conv_state(
        self, conv_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Tensor:
        """As a stock cache does."""
        self._touch()
        return super().update_conv_state(conv_states, layer_idx, *args, **kwargs)

    def update_recurrent_state(
        self, recurrent_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Tensor:
        """As a stock cache does."""
        self._touch()
        return super().update_recurrent_state(recurrent_states, layer_idx, *args, **kwargs)

    def adopt(self, binding: Binding | None) -> None:
        """Belong to the attachment of the model that runs it, if to none yet.

        Raises:
            UserError: it belongs to another.
        """
        if self.binding is None:
            self.binding, self._pass = binding, current(binding)
        if self.binding is not binding:
            raise UserError(
                "this pruned cache was made by the attachment of another model; pass one that this "
                "model's memory.new_cache() made"
            )

    def check_batch(self, batch: int) -> None:
        """Raise `UserError` unless as many sequences are held, or none yet."""
        pruned = (layer for layer in self.layers if isinstance(layer, PrunedLayer))
        counts = (layer.sequences for layer in pruned)
        held = next((count for count in counts if count is not None), batch)
        if held != batch:
            raise UserError(another_batch(held, batch))

    def rollback(self) -> None:
        """Go back to the last whole step; what one that was left in its middle added is gone.

        A step ends with the forward pass of the attached model. (Where only a part of the model is
        called, it ends with that, and for `model.forward` with the last layer.)

        Raises:
            UserError: a layer with a recurrent state took part in it, which cannot go back.
        """
        if self._ended:
            self.end_step()
        if self._touched:
            raise UserError(
                "this model has layers with a recurrent state, which cannot go back; reset() the "
                "cache or make a new one"
            )
        for layer in self.pruned:
            layer.restore()
        for index, layer in self._stock.items():
            self.layers[index] = layer
        self._stock, self._done = {}, 0

    def end_step(self) -> None:
        """All layers have taken the step: each does what is due. Interrupted, it is done later."""
        self._ended = True
        for layer in self.pruned:
            layer.settle()
        self._most_elsewhere = max(self._most_elsewhere, self._bytes_elsewhere())
        self._stock, self._done, self._touched, self._pass = {}, 0, False, None
        self._ended = False

    def reset(self) -> None:
        """Forget everything."""
        for layer in self.pruned:
            layer.reset()
        # Stock layers with a recurrent state keep the size of its batch, where they reset it.
        for index, layer in self._new.items():
            self.layers[index] = deepcopy(layer)
        self._stock, self._done, self._touched, self._pass = {}, 0, False, None
        self._ended, self._most_elsewhere = False, 0

    def crop(self, tokens_to_remove: int) -> None:
        """Refused: what was evicted cannot come back."""
        if tokens_to_remove:
            raise UserError(
                "a pruned cache cannot be rolled back by a number of tokens (assisted decoding asks"
                " for it); generate without an assistant model, and hide tokens that are to be "
                "forgotten by an attention mask"
            )

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow beams: sequence b goes on from sequence `beam_idx[b]`."""
        self._rearrange("reorder_cache", self._chosen("beam_idx", beam_idx))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sequence so many times."""
        if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
            raise UserError(f"repeats is {shown(repeats)}; use a whole number from 1 on")
        self._rearrange("batch_repeat_interleave", repeats)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these sequences of the batch, in this order."""
        self._rearrange("batch_select_indices", self._chosen("indices", indices))

    def _chosen(self, name: str, indices: Tensor | Sequence[int]) -> Int[Tensor, " sequences"]:
        """Indices of sequences, or a mask over them, as a tensor of indices."""
        batch = max((layer.sequences or 0 for layer in self.pruned), default=0)
        try:
            chosen = torch.as_tensor(indices)
            return torch.arange(batch)[chosen.cpu()] if batch else chosen
        except (TypeError, ValueError, IndexError, RuntimeError):
            raise UserError(
                f"{name} is {shown(indices)}; use whole numbers of sequences below {batch}"
            ) from None

    def _rearrange(self, how: str, what: Any) -> None:
        """Rearrange the sequences of all layers, or of none."""
        self._check_whole()
        layers = [
            # These write into what they hold.
            deepcopy(layer) if isinstance(layer, LinearAttentionCacheLayerMixin) else copy(layer)
            for layer in self.layers
        ]
        for index, layer in enumerate(layers):
            if isinstance(layer, LinearAttentionCacheLayerMixin) and how != "reorder_cache":
                raise UserError(
                    f"layer {index} of this model has a recurrent state, of which sequences cannot "
                    "be chosen or repeated; pass the batch as it should be from the start"
                )
            getattr(layer, how)(what)
        self.layers = layers

    def _enter(self, index: int) -> None:
        """Refuse a layer that is not the next to take the step."""
        self._check_attached()
        running = current(self.binding)
        if self._done == len(self._order) and self._same_pass(running):
            # Some models go through their layers twice in a forward pass.
            self.end_step()
        ended = self._done == len(self._order)
        if ended or index != self._order[self._done] or not self._same_pass(running):
            raise self._half()
        begun = self.layers[index]
        if isinstance(begun, PrunedLayer) and begun.under_way:
            raise self._half()
        self._pass = running

    def _touch(self) -> None:
        """A layer with a recurrent state, which cannot go back, takes the step."""
        self._check_attached()
        running = current(self.binding)
        if not self._same_pass(running):
            raise self._half()
        self._pass = running
        if running is None:
            raise UserError(
                "layers with a recurrent state cannot be watched where only a part of this model "
                "is called; call the model itself, not its forward"
            )
        self._touched = True

    def _same_pass(self, running: Pass | None) -> bool:
        """Whether the step that is under way, if one is, is that of the pass that is running."""
        begun = self._touched or self._done
        return not begun or self._pass is running

    def leave(self) -> None:
        """A layer has taken the step; after the last one the step ends, or waits for its pass."""
        self._done += 1
        if self._done == len(self._order):
            if self._pass is None:
                self.end_step()
            else:
                self._pass.caches.append(self)

    def _check_attached(self) -> None:
        if self._ended:
            self.end_step()
        if self.binding is not None:
            self.binding.check()

    def _check_whole(self) -> None:
        if self._ended:
            self.end_step()
        begun = self._done or self._touched or any(layer.under_way for layer in self.pruned)
        if begun and not (self._pass and self._pass is current(self.binding)):
            raise self._half()

    def _half(self) -> UserError:
        return UserError(
            f"this pruned cache is in the middle of a step, which {self._done} of its "
            f"{len(self._order)} layers have taken: an error or an interrupt ended the forward "
            "pass, or this model does not call each layer once, in order; rollback() to the last "
            "whole step, reset() the cache, or make a new one"
        )


def _pruned(layer: Any, pruning: Pruning, index: int) -> Any:
    """What stands in for a layer of the stock cache; itself, if it is left alone."""
    # Exactly these: their subclasses (sliding windows, quantised) store otherwise.
    if type(layer) is DynamicLayer:
        return PrunedLayer(pruning, index, alone=False)
    if type(layer) is LinearAttentionAndFullAttentionLayer:
        return PrunedHybridLayer(pruning, index, layer.number_of_states)
    return layer

"""One layer's pruned cache: attends, remembers the window, and evicts inside the attention call.

`update` (transformers' cache protocol) only parks the new keys; the registered attention function
hands queries, keys and values to `attend`, which splits them at multiples of the update interval.
Layer l's eviction reads only layer l's queries and keys and everything is causal, so the result
does not depend on how a prompt is cut into calls.
"""

import threading
import time

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from transfer.cache.attend import attend
from transfer.cache.eviction import select
from transfer.cache.packed import PackedTokens
from transfer.cache.policy import Pruning
from transfer.cache.queries import STRIDE, Queries, QueryLog
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError


class Handoff(threading.local):
    """The layer whose keys are on their way to the attention function of this thread."""

    layer: "PrunedLayer | None" = None


HANDOFF = Handoff()


class PrunedLayer(CacheLayerMixin):
    """Ragged keys, values, positions and policy state of one layer.

    Attributes:
        index: of the layer in the model.
        seen: tokens that went through, padding included.
        peak_bytes: the most this layer ever held.
        policy_seconds: time spent observing, scoring and evicting.
        kept_positions: with `Pruning.trace`, `(seen, positions)` after each update, positions
            being one tensor for each (sequence, KV head).
    """

    is_sliding = False
    supports_early_init = False

    def __init__(self, pruning: Pruning, index: int) -> None:
        super().__init__()
        self._given = pruning
        self.index = index
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.pruning = self._given
        self.store: PackedTokens | None = None
        self.pending: Tensor | None = None
        self._log: QueryLog | None = None
        self._scale = 1.0
        self.batch_size, self.kv_heads = 0, 0
        self.is_initialized = False
        self.seen = 0
        self.padding: list[int] = []
        self.leading: list[int] = []
        self.peak_bytes = 0
        self.policy_seconds = 0.0
        self.kept_positions: list[tuple[int, list[Tensor]]] = []

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take shapes, dtype and device from the first keys and values."""
        self.batch_size, self.kv_heads = key_states.shape[:2]
        self.pruning = self.pruning.fitted(key_states.shape[2])
        self.padding = [0] * self.batch_size
        self.leading = [0] * self.batch_size
        policy = self.pruning.policy
        slack = min(self.pruning.update_interval, STRIDE) if policy.evicts else None
        self.store = PackedTokens(
            key_states, value_states, policy.state_size, policy.half_state, slack
        )
        self.is_initialized = True

    # transformers' cache protocol

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Park the new keys for the attention function; returns them unchanged.

        Raises:
            UserError: the keys of the call before never reached the attention function.
        """
        if self.pending is not None:
            raise UserError(
                f"layer {self.index} of this pruned cache is left between two steps, by an error "
                "or by a model that is not attached; call reset() or make a new cache inside "
                "`with attach(model, policy)`"
            )
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.pending = key_states
        HANDOFF.layer = self
        return key_states, value_states

    def get_seq_length(self) -> int:
        """True number of tokens seen, so that positions go on as if nothing had been evicted."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Masks are over the new tokens only."""
        return query_length, self.seen

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        """Refused: what was evicted cannot come back."""
        if tokens_to_remove:
            raise UserError(
                "a pruned cache cannot be rolled back (assisted decoding asks for it); "
                "generate without an assistant model"
            )

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Refused: beams would need their own window of queries."""
        raise UserError("a pruned cache does not follow beams; generate with num_beams=1")

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Refused: contrastive search is not supported."""
        raise UserError("a pruned cache cannot be repeated; pass the repeated batch from the start")

    @torch.inference_mode(False)
    @torch.no_grad()
    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these sequences of the batch, in this order."""
        if self.store is None:
            return
        chosen = torch.arange(self.batch_size)[indices.cpu()].tolist()
        heads = range(self.kv_heads)
        rows = [b * self.kv_heads + head for b in chosen for head in heads]
        self.store.select(rows)
        self.kept_positions = [
            (seen, [kept[row] for row in rows]) for seen, kept in self.kept_positions
        ]
        if self._log is not None:
            self._log.select(chosen)
        self.padding = [self.padding[b] for b in chosen]
        self.leading = [self.leading[b] for b in chosen]
        self.batch_size = len(chosen)

    def offload(self) -> None:
        """Refused."""
        raise UserError("a pruned cache stays on its device; do not combine it with offloading")

    # what pruning adds

    def tensors(self) -> list[Tensor]:
        """Every tensor this layer holds."""
        queries = [self._log.query, self._log.lse] if self._log else []
        return [*self.store.tensors, *queries] if self.store else queries

    def bytes(self) -> int:
        """Bytes of everything held: keys, values, positions, policy state, window, free slots."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.tensors())

    def full_bytes(self) -> int:
        """Bytes the stock cache would hold after the same tokens."""
        if self.store is None:
            return 0
        rows = self.batch_size * self.kv_heads
        each = self.store.keys[:1].nbytes + self.store.values[:1].nbytes
        return rows * self.seen * each

    def kept(self) -> list[list[int]]:
        """Tokens held, `[batch][kv_heads]`."""
        if self.store is None:
            return []
        heads = self.kv_heads
        lengths = self.store.lengths
        return [lengths[start : start + heads] for start in range(0, len(lengths), heads)]

    def positions(self) -> list[Tensor]:
        """True positions held, one tensor for each (sequence, KV head)."""
        return [tokens for row in range(self.batch_size) for tokens in self.positions_of(row)]

    def positions_of(self, sequence: int) -> list[Tensor]:
        """True positions that one sequence of the batch holds, a tensor for each KV head."""
        if self.store is None:
            return []
        store, first = self.store, sequence * self.kv_heads
        rows = range(first, first + self.kv_heads)
        return [store.row(store.positions, row).clone() for row in rows]

    def window(self) -> AttentionWindow:
        """What a policy would see now, with as many of the newest queries as are held.

        Raises:
            UserError: nothing went through this layer yet.
        """
        if self.store is None:
            raise UserError(f"layer {self.index} has seen no token yet; run the model first")
        if self._log is None:
            return self._window(None, self._budget())
        held, since = self._log.held(self.seen), self.seen % self.pruning.update_interval
        new = min(held.rows, since or min(self.seen, self.pruning.update_interval))
        return self._window(held.part(0, held.rows, new), self._budget())

    # What is stored may be used outside inference mode too, so it must not be made inside.
    @torch.inference_mode(False)
    @torch.no_grad()
    def attend(
        self,
        query: Float[Tensor, "batch heads new dim"],
        key: Float[Tensor, "batch kv_heads new dim"],
        value: Float[Tensor, "batch kv_heads new value_dim"],
        valid: Bool[Tensor, "batch new"] | None,
        scale: float,
    ) -> Float[Tensor, "batch heads new value_dim"]:
        """Attend the new tokens over the cache, adding them to it and pruning on the way.

        Args:
            query, key, value: of the new tokens.
            valid: False at padding, which is never stored; None when all are real.
            scale: of the scores.
        """
        self._scale = scale
        update_interval, new, start, out = self.pruning.update_interval, query.shape[2], 0, []
        while start < new:
            stop = min(new, start + update_interval - self.seen % update_interval)
            piece = slice(start, stop)
            pad = None if valid is None or bool(valid[:, piece].all()) else valid[:, piece]
            out.append(
                self._attend_piece(query[:, :, piece], key[:, :, piece], value[:, :, piece], pad)
            )
            if self.seen % update_interval == 0 and self.pruning.policy.evicts:
                # Where a long piece came another may follow, and would have to move everything.
                self._prune(
                    update_interval if stop - start > STRIDE else min(update_interval, STRIDE)
                )
            start = stop
        # Not before: a cache left by an error in the middle must not be used again.
        self.pending = None
        return out[0] if len(out) == 1 else torch.cat(out, 2)

    def _attend_piece(
        self, query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None
    ) -> Tensor:
        assert self.store is not None
        past = self.store.lengths
        self.store.append(key, value, self.seen, valid)
        out, lse = attend(query, key, value, valid, self.store, past, self._scale)
        if valid is not None:
            self._count_padding(valid)
        self.seen += query.shape[2]
        if self.pruning.reads_attention:
            self._remember(query, lse, valid)
        self.peak_bytes = max(self.peak_bytes, self.bytes())
        return out

    def _count_padding(self, valid: Bool[Tensor, "batch new"]) -> None:
        padding = (~valid).sum(-1).tolist()
        leading = (valid.cumsum(-1) == 0).sum(-1).tolist()
        self.leading = [
            old + new if old == self.seen else old for old, new in zip(self.leading, leading)
        ]
        self.padding = [old + new for old, new in zip(self.padding, padding)]

    def _remember(self, query: Tensor, lse: Tensor, valid: Tensor | None) -> None:
        """Let the policy observe the queries as soon as there are enough, and then forget them."""
        if valid is not None:
            # Padding attends to nobody.
            lse = lse.masked_fill(~valid[:, None], torch.inf)
        if self._log is None:
            self._log = QueryLog(query, lse, self.pruning.carried, self.pruning.stride)
        log, at_update = self._log, self.seen % self.pruning.update_interval == 0
        if log.pending + query.shape[2] < self.pruning.stride and not at_update:
            return log.add(query, lse)
        queries = log.joined(query, lse, self.seen)
        # Update intervals are multiples of what the policy needs.
        late = 0 if at_update else queries.new % self.pruning.piece
        self._observe(queries.part(0, queries.rows - late, queries.new - late))
        return log.keep_last(queries, late)

    def _observe(self, queries: Queries) -> None:
        policy, store, started = self.pruning.policy, self.store, time.perf_counter()
        assert store is not None
        if store.longest and policy.state_size:
            window = self._window(queries, budget=None)
            store.set_state(policy.accumulate(window, self._take_state()))
        self.policy_seconds += time.perf_counter() - started

    def _take_state(self) -> Float[Tensor, "batch kv_heads tokens size"]:
        assert self.store is not None
        return self.store.take_state().unflatten(0, (self.batch_size, self.kv_heads))

    def _window(self, queries: Queries | None, budget: Tensor | None) -> AttentionWindow:
        assert self.store is not None
        device = self.store.keys.device
        return AttentionWindow(
            self.store,
            queries,
            layer=self.index,
            seen=self.seen,
            scale=self._scale,
            padding=torch.tensor(self.padding, device=device),
            first=torch.tensor(self.leading, device=device),
            budget=budget,
        )

    def _budget(self) -> Tensor | None:
        """Tokens each sequence may keep in each head, `[batch]`."""
        tokens = [self.pruning.tokens(self.seen - padding) for padding in self.padding]
        if tokens[0] is None or self.store is None:
            return None
        return torch.tensor(tokens, device=self.store.keys.device)

    def _prune(self, room: int) -> None:
        started = time.perf_counter()
        assert self.store is not None
        window, policy = self.window(), self.pruning.policy
        if self.store.longest:
            scores, state = policy.score(window, self._take_state())
            kept = select(
                scores, window.valid, policy.threshold, window.budget, self.pruning.eviction
            )
            self.store.keep(kept, state, room)
        # Freshly packed rows have room again, which can outweigh the little that left.
        self.peak_bytes = max(self.peak_bytes, self.bytes())
        if self.pruning.trace:
            self.kept_positions.append((self.seen, self.positions()))
        self.policy_seconds += time.perf_counter() - started

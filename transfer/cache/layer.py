"""One layer's pruned cache: attends, remembers the window, and evicts.

`update` (transformers' cache protocol) only looks at the new keys; the registered attention
function hands queries, keys and values to `attend`, which splits them at multiples of the update
interval. Layer l's eviction reads only layer l's queries and keys and everything is causal, so the
result does not depend on how a prompt is cut into calls, nor, since each sequence counts its own
tokens, on padding and on who else is in the batch.

A call works on a copy of what is held (buffers are shared, nothing old is written over), so that a
forward pass that ends in the middle can be taken back. What is due after the last token of a call
waits for `settle`, when all layers have had their turn: nothing that left is needed any more.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import ref

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from transfer.cache.attend import attend
from transfer.cache.columns import Columns
from transfer.cache.eviction import select
from transfer.cache.held import Held
from transfer.cache.packed import ROOM, SLACK, PackedTokens
from transfer.cache.pieces import Piece, assembled, cut
from transfer.cache.policy import Depth, Pruning, accumulated, scored
from transfer.cache.protected import Protected, protection
from transfer.cache.queries import Queries, QueryLog
from transfer.cache.window import AttentionWindow
from transfer.errors import UserError


class Asked(threading.local):
    """The layer that was asked last, in this thread, what masks have to cover."""

    layer: "ref[PrunedLayer] | None" = None


ASKED = Asked()


def another_batch(held: int, given: int) -> str:
    """Why a call with another number of sequences than are held is refused."""
    return (
        f"this pruned cache holds {held} sequences and was given {given}; choose or repeat its "
        "sequences (batch_select_indices, batch_repeat_interleave), or make a new cache"
    )


@dataclass
class Contents:
    """What a layer holds of a batch of sequences.

    Attributes:
        store: keys, values, positions and policy state.
        log: the newest queries; None until the first come, and where no policy asks for them.
        columns: of the input.
        counts: tokens of each sequence that went through, padding left out.
        due: sequences that have come to an update which is not done yet.
        last: what `counts()` was at the last update of each sequence; 0: there was none.
        updates: with `Pruning.trace`, for each sequence `(seen, columns)` after every update: how
            many columns had come, and those of the tokens kept, a tensor for each KV head.
        held: how much each sequence has held so far.
    """

    store: PackedTokens
    log: QueryLog | None
    columns: Columns
    counts: list[int]
    last: list[int]
    due: list[int] = field(default_factory=list)
    updates: list[list[tuple[int, list[Tensor]]]] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def copied(self) -> "Contents":
        """Another that shares the buffers, which are only ever written behind what they hold."""
        return Contents(
            copy(self.store),
            copy(self.log),
            self.columns,
            list(self.counts),
            list(self.last),
            list(self.due),
            [list(updates) for updates in self.updates],
            list(self.held),
        )


class PrunedLayer(CacheLayerMixin):
    """Ragged keys, values, positions and policy state of one layer.

    Attributes:
        index: of the layer in the model.
        depth: its place among the layers that are pruned.
        now: what is held.
        under_way: whether a call is, of which it is not said yet that all layers have taken it.
        before: what was held before it.
        protected: tokens that never leave, beside those of the settings.
        alone: whether no cache says when a call is over for all layers.
        scale: of the scores of the newest call.
        room: free slots that a row gets at its next update.
        peak_bytes: the most this layer ever held.
        policy_seconds: time spent observing, scoring and evicting.
    """

    is_sliding = False
    supports_early_init = False

    def __init__(
        self, pruning: Pruning, index: int, alone: bool = True, depth: Depth | None = None
    ) -> None:
        super().__init__()
        self._given = pruning
        self.index = index
        self.depth = depth or Depth()
        self.alone = alone
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._empty()
        self.protected: Protected | None = None
        self.first = 0
        self.peak_bytes = 0
        self.policy_seconds = 0.0

    # A copy is filled further outside of inference mode, wherever it was made.
    @torch.inference_mode(False)
    def __deepcopy__(self, memo: dict[int, Any]) -> "PrunedLayer":
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in vars(self).items():
            setattr(twin, name, deepcopy(value, memo))
        return twin

    def _empty(self) -> None:
        self.pruning = self._given
        self.now: Contents | None = None
        self.before: Contents | None = None
        self.under_way = False
        self.scale = 1.0
        self.room = 0
        self.batch_size, self.kv_heads = 0, 0
        self.is_initialized = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take shapes, dtype and device from the first keys and values, none of them padding."""
        self._begin(key_states, value_states, key_states.shape[2])

    def _begin(self, key_states: Tensor, value_states: Tensor, tokens: int) -> None:
        self.batch_size, self.kv_heads = key_states.shape[:2]
        self.pruning = self.pruning.fitted(tokens)
        policy, batch = self.pruning.policy, self.batch_size
        slack = min(self.pruning.interval, SLACK) if policy.evicts else None
        dtype = policy.state_dtype(key_states.dtype)
        store = PackedTokens(key_states, value_states, policy.state_size, dtype, slack)
        updates: list[list[tuple[int, list[Tensor]]]] = [[] for _ in range(batch)]
        zeros, held = [0] * batch, [Held()] * batch
        self.now = Contents(store, None, Columns(), zeros, zeros, updates=updates, held=held)
        self.is_initialized = True

    @property
    def sequences(self) -> int | None:
        """How many are held, or were named before they came; None: any number may come."""
        if self.now is None and self.protected is not None:
            return len(self.protected.columns)
        return self.batch_size if self.now else None

    @property
    def store(self) -> PackedTokens | None:
        """The tokens held; None before the first."""
        return self.now.store if self.now else None

    @property
    def seen(self) -> int:
        """Columns that went through, padding included."""
        return self.now.columns.seen if self.now else 0

    # transformers' cache protocol

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Nothing yet, as attention takes them; returns them unchanged."""
        return key_states, value_states

    def get_seq_length(self) -> int:
        """True number of tokens seen, so that positions go on as if nothing had been evicted."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Masks are over the new tokens only; the mask function may ask this layer about others."""
        ASKED.layer = ref(self)
        return query_length, self.seen

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow beams."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sequence so many times."""
        self.batch_select_indices(torch.arange(self.sequences or 0).repeat_interleave(repeats))

    @torch.inference_mode(False)
    @torch.no_grad()
    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these sequences of the batch, in this order, each as often as it is named."""
        if self.sequences is None:
            return
        chosen = torch.arange(self.sequences)[indices.cpu()].tolist()
        if chosen == list(range(self.sequences)):
            return
        if self.protected is not None:
            self.protected = self.protected.chosen(chosen)
        if self.now is None:
            return
        now = self.now.copied()
        now.store.select(self._rows(chosen))
        if now.log is not None:
            now.log.select(chosen)
        now.columns = now.columns.chosen(chosen)
        now.counts = [now.counts[b] for b in chosen]
        now.last = [now.last[b] for b in chosen]
        now.updates = [list(now.updates[b]) for b in chosen]
        now.held = [now.held[b] for b in chosen]
        self.now, self.batch_size = now, len(chosen)

    def offload(self) -> None:
        """Refused."""
        raise UserError("a pruned cache stays on its device; do not combine it with offloading")

    def prefetch(self) -> None:
        """Refused."""
        self.offload()

    def protecting(self, more: Protected) -> Protected:
        """What is protected once `more` is.

        Raises:
            UserError: that is more than the budget has, or a token has left already.
        """
        together = self.protected.joined(more) if self.protected else more
        together.check_budget(self.pruning, self.now.columns if self.now else Columns())
        if self.now is not None and any(self.now.last):
            more.check_held(self.now.store, self.now.columns, self.first, self.index)
        return together

    # what is held

    def tensors(self) -> list[Tensor]:
        """Every tensor this layer holds, but for what a step under way could be taken back to."""
        if self.now is None:
            return []
        log = self.now.log
        return [*self.now.store.tensors, *([log.query, log.lse] if log else [])]

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

    def held(self) -> list[Held]:
        """How much each sequence has held so far."""
        return list(self.now.held) if self.now else []

    def counts(self) -> list[int]:
        """Tokens of each sequence that came, padding left out."""
        return list(self.now.counts) if self.now else [0] * self.batch_size

    def last_updates(self) -> list[int]:
        """What `counts` was at the last update of each sequence; 0: there was none yet."""
        return [at and at - self.first for at in self.now.last] if self.now else []

    def positions(self) -> list[Tensor]:
        """Columns of the tokens held, one tensor for each (sequence, KV head)."""
        return [tokens for row in range(self.batch_size) for tokens in self.positions_of(row)]

    def positions_of(self, sequence: int) -> list[Tensor]:
        """Columns of the tokens that one sequence of the batch holds, a tensor for each KV head."""
        if self.now is None:
            return []
        store, columns = self.now.store, self.now.columns
        held = [store.row(store.positions, row) for row in self._rows([sequence])]
        return [columns.of(tokens - self.first, sequence) for tokens in held]

    @property
    def kept_positions(self) -> list[list[tuple[int, list[Tensor]]]]:
        """With `Pruning.trace`, what each sequence kept at its updates, see `Contents.updates`."""
        return self.now.updates if self.now else []

    def attention(self) -> Float[Tensor, "batch heads queries tokens"]:
        """Attention of the queries since the last update, or those before it, onto what is held.

        Queries and tokens are ordered old to new and padded on the left where sequences or heads
        have fewer.

        Raises:
            UserError: nothing went through this layer yet, or it does not keep its queries.
        """
        if self.now is None or (self.pruning.reads_attention and self.now.log is None):
            raise UserError(f"layer {self.index} has seen no token yet; run the model first")
        found = []
        for sequences in self._alike(range(self.batch_size)):
            part = self._part(sequences)
            found += zip(sequences, self._window(sequences, part, self._newest(sequences)).matrix())
        queries, tokens = (max(one.shape[axis] for _, one in found) for axis in (1, 2))
        heads = found[0][1].shape[0]
        out = found[0][1].new_zeros(self.batch_size, heads, queries, tokens)
        for sequence, one in found:
            out[sequence, :, queries - one.shape[1] :, tokens - one.shape[2] :] = one
        return out

    # a call

    # What is stored may be used outside inference mode too, so it must not be made inside.
    @torch.inference_mode(False)
    @torch.no_grad()
    def attend(
        self,
        query: Float[Tensor, "batch heads new dim"],
        key: Float[Tensor, "batch kv_heads new dim"],
        value: Float[Tensor, "batch kv_heads new value_dim"],
        mask: Bool[Tensor, "batch tokens"] | None,
        scale: float,
    ) -> Float[Tensor, "batch heads new value_dim"]:
        """Attend the new tokens over the cache, adding them to it and pruning on the way.

        Args:
            query, key, value: of the new tokens.
            mask: False at padding, which is never stored; of the new tokens, or of all columns to
                drop those tokens for good that it hides. None when all are real.
            scale: of the scores.
        """
        new = query.shape[2]
        if not self.alone:
            self.before, self.under_way = self.now, True
        if self.now is None:
            self._begin(key, value, new if mask is None else int(mask[:, -new:].sum(1).max()))
        assert self.now is not None
        self.now = self.now.copied()
        self.scale = scale
        if mask is not None and mask.shape[1] > new:
            self._drop(mask[:, :-new])
        valid = None if mask is None or bool(mask[:, -new:].all()) else mask[:, -new:]
        self.now.columns = self.now.columns.followed_by(new, valid)
        at = [self._at(b) for b in range(self.batch_size)]
        pieces, parts = cut(at, self.pruning.interval, new, valid, query.device), []
        for piece in pieces:
            if self.now.due:
                self._catch_up()
            parts.append(self._attend_piece(piece, query, key, value))
        if self.alone:
            self.settle()
        return assembled(pieces, parts, query)

    def settle(self) -> None:
        """The call is over for all layers: do what is due, and forget what was before it."""
        self.before, self.under_way = None, False
        if self.now is None or not (self.now.due or self._full()):
            return
        now, self.now = self.now, self.now.copied()
        try:
            self._catch_up()
        except BaseException:
            # To be done again: the state may have been counted, but not the queries as seen.
            self.now = now
            raise

    def restore(self) -> None:
        """Take a call back that is not over for all layers."""
        if self.under_way and self.before is None:
            self._empty()
        elif self.before is not None:
            self.before.store.mend()
            self.now, self.before, self.under_way = self.before, None, False

    def _attend_piece(
        self, piece: Piece, query: Tensor, key: Tensor, value: Tensor
    ) -> Float[Tensor, "batch heads tokens value_dim"]:
        assert self.now is not None
        now, first = self.now, list(map(self._at, range(self.batch_size)))
        query, key, value = (piece.of(states) for states in (query, key, value))
        past, bytes_before = now.store.lengths, self.bytes()
        now.store.append(key, value, first, piece.valid)
        if self.before and any(past) and self.before.store.lengths is past:
            # Nothing has left since: what was held before can be read here, wherever it was moved.
            self.before = replace(self.before, store=now.store.shortened(past))
        out, lse = attend(query, key, value, piece.valid, now.store, past, self.scale)
        now.counts = [old + new for old, new in zip(now.counts, piece.counts)]
        if self.pruning.reads_attention:
            self._remember(piece, query, lse)
        at_update = self.pruning.interval
        now.due = [b for b, new in enumerate(piece.counts) if new and self._at(b) % at_update == 0]
        # Where a long piece came another may follow.
        self.room = min(at_update, ROOM if query.shape[2] > SLACK else SLACK)
        self._note(piece, past, bytes_before)
        return out

    def _note(self, piece: Piece, past: list[int], bytes_before: int) -> None:
        """Count what is held while the tokens of a piece attend."""
        assert self.now is not None
        now, heads, bytes_after = self.now, self.kv_heads, self.bytes()
        self.peak_bytes = max(self.peak_bytes, bytes_after)
        before, after = bytes_before / self.batch_size, bytes_after / self.batch_size
        now.held = [
            held.followed_by(new, sum(past[b * heads : (b + 1) * heads]) / heads, before, after)
            for b, (held, new) in enumerate(zip(now.held, piece.counts))
        ]

    def _remember(self, piece: Piece, query: Tensor, lse: Tensor) -> None:
        """Keep the queries until there are enough for the policy; of many, show it most at once."""
        assert self.now is not None
        now, pruning = self.now, self.pruning
        if now.log is None:
            early = self.first % pruning.piece
            now.log = QueryLog(query, lse, pruning.carried, pruning.stride, early)
        if piece.valid is None and max(now.log.pending) + query.shape[2] <= now.log.room:
            now.log.add_to_all(query, lse)
            return
        came = [b for b, count in enumerate(piece.counts) if count]
        for sequences in self._alike(came, piece.counts):
            one = sequences[0]
            count, at = piece.counts[one], self._at(one)
            some = sequences if len(sequences) < self.batch_size else slice(None)
            new = Queries(query[some, :, -count:], lse[some, :, -count:], at - count, count)
            if now.log.pending[one] + count <= now.log.room:
                now.log.add(sequences, new)
            else:
                self._observe(sequences, now.log.joined(sequences, new))

    def _full(self) -> bool:
        """Whether the log of a sequence has no room for another query."""
        log = self.now.log if self.now else None
        return log is not None and max(log.pending) >= log.room

    # A step may end outside of `attend`, where inference mode is on.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _catch_up(self) -> None:
        """Show the policy what it has to see now, and prune the sequences that are due."""
        assert self.now is not None
        now = self.now
        log, due = now.log, now.due
        if log is not None and (due or self._full()):
            late = [b for b, n in enumerate(log.pending) if n >= log.room or (n and b in due)]
            for sequences in self._alike(late):
                self._observe(sequences, log.held(sequences, self._at(sequences[0])))
            self.peak_bytes = max(self.peak_bytes, self.bytes())
        if due and self.pruning.policy.evicts:
            self._prune(due)
            now.last = [self._at(b) if b in due else at for b, at in enumerate(now.last)]
        now.due = []

    def _observe(self, sequences: list[int], queries: Queries) -> None:
        """Take queries of sequences that are alike into their policy state, and into the log."""
        assert self.now is not None
        assert self.now.log is not None
        started, pruning, store = time.perf_counter(), self.pruning, self.now.store
        # Update intervals are multiples of what the policy needs.
        at_update = self._at(sequences[0]) % pruning.interval == 0
        late = 0 if at_update else queries.new % pruning.piece
        shown = queries.part(0, queries.rows - late, queries.new - late)
        if store.longest and pruning.policy.state_size:
            part = self._part(sequences)
            window = self._window(sequences, part, shown)
            part.set_state(accumulated(pruning.policy, window, self._state(sequences, part)))
            if part is not store:
                store.put_state(self._rows(sequences), part)
        self.now.log.keep_last(sequences, queries, late)
        self.policy_seconds += time.perf_counter() - started

    def _prune(self, due: list[int]) -> None:
        """Evict what the policy says, in the sequences that have come to an update."""
        assert self.now is not None
        started, now = time.perf_counter(), self.now
        groups = self._alike(due)
        if now.store.longest:
            whole = len(groups[0]) == self.batch_size
            kept, state = self._verdict(groups[0]) if whole else self._verdicts(groups)
            now.store.keep(kept, state, self.room)
        # Freshly packed rows have room again, which can outweigh the little that left.
        self.peak_bytes = max(self.peak_bytes, self.bytes())
        if self.pruning.trace:
            for b in due:
                last = torch.tensor([now.counts[b] - 1])
                column = int(now.columns.of(last, b)) + 1
                now.updates[b].append((column, self.positions_of(b)))
        self.policy_seconds += time.perf_counter() - started

    def _verdict(
        self, sequences: list[int]
    ) -> tuple[
        Bool[Tensor, "some kv_heads tokens"], Float[Tensor, "some kv_heads tokens state_size"]
    ]:
        """Which tokens of sequences that are alike stay, and their state."""
        assert self.now is not None
        pruning, part = self.pruning, self._part(sequences)
        tokens = pruning.tokens(self.now.counts[sequences[0]], self.depth)
        budget = None
        if tokens is not None:
            budget = torch.full((len(sequences),), tokens, device=part.keys.device)
        window = self._window(sequences, part, self._newest(sequences), budget)
        named = None
        if self.protected is not None:
            named = self.now.columns.tokens(self.protected.columns)[sequences]
        protected = protection(pruning, named, window)
        if budget is not None and protected is not None:
            # A fraction of few tokens may be less.
            window.budget = budget = budget.maximum(protected.sum(-1).amax(1))
        scores, state = scored(pruning.policy, window, self._state(sequences, part))
        how = pruning.cutoff, budget, pruning.eviction, protected, pruning.floor
        return select(scores, window.valid, *how), state

    def _verdicts(
        self, groups: list[list[int]]
    ) -> tuple[
        Bool[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens state_size"]
    ]:
        """The same for some groups of sequences; of the others everything stays."""
        assert self.now is not None
        store, everybody = self.now.store, list(range(self.batch_size))
        kept = self._by_head(store.index()[1], everybody).clone()
        state = self._state(everybody, store)
        for sequences in groups:
            if any(store.lengths[row] for row in self._rows(sequences)):
                some, own = self._verdict(sequences)
                kept[sequences, :, store.longest - some.shape[2] :] = some
                state[sequences, :, store.longest - some.shape[2] :] = own
        return kept, state

    def _drop(self, visible: Bool[Tensor, "batch seen"]) -> None:
        """Let go for good of every token that a mask hides."""
        assert self.now is not None
        now, everybody = self.now, list(range(self.batch_size))
        now.columns = now.columns.without(visible)
        if not now.store.longest:
            return
        valid, visible = now.store.index()[1], visible.cpu()
        tokens = now.store.padded(now.store.positions).cpu() - self.first
        seen = [
            # (What stands for padding may lie anywhere.)
            visible[b, now.columns.of(tokens[row], b).long().clamp(0, visible.shape[1] - 1)]
            for b in everybody
            for row in self._rows([b])
        ]
        kept = valid & torch.stack(seen).to(valid.device)
        state = self._state(everybody, now.store)
        now.store.keep(self._by_head(kept, everybody), state, now.store.slack or 0)

    # sequences

    def _at(self, sequence: int) -> int:
        """Index of the next token of a sequence."""
        assert self.now is not None
        return self.first + self.now.counts[sequence]

    def _alike(self, sequences: Iterable[int], new: Sequence[int] | None = None) -> list[list[int]]:
        """Sequences in groups that have come equally far, with as many queries still unseen."""
        assert self.now is not None
        log, groups = self.now.log, defaultdict(list)
        for b in sequences:
            key = (self._at(b), log.pending[b] if log else 0, new[b] if new else 0)
            groups[key].append(b)
        return list(groups.values())

    def _rows(self, sequences: list[int]) -> list[int]:
        """Rows of the store, a row being a KV head of a sequence."""
        return [b * self.kv_heads + head for b in sequences for head in range(self.kv_heads)]

    def _part(self, sequences: list[int]) -> PackedTokens:
        """The store of these sequences: a copy, unless it is all of them."""
        assert self.now is not None
        store = self.now.store
        return store if len(sequences) == self.batch_size else store.part(self._rows(sequences))

    def _by_head(self, rows: Tensor, sequences: list[int]) -> Tensor:
        return rows.unflatten(0, (len(sequences), self.kv_heads))

    def _state(
        self, sequences: list[int], part: PackedTokens
    ) -> Float[Tensor, "some kv_heads tokens state_size"]:
        return self._by_head(part.padded_state(), sequences)

    def _newest(self, sequences: list[int]) -> Queries | None:
        """The newest queries of sequences that are alike, those since the last update asked for."""
        assert self.now is not None
        if self.now.log is None:
            return None
        at, interval = self._at(sequences[0]), self.pruning.interval
        held = self.now.log.held(sequences, at)
        since = at % interval or min(at, interval)
        return held.part(0, held.rows, min(held.rows, since, self.now.counts[sequences[0]]))

    def _window(
        self,
        sequences: list[int],
        part: PackedTokens,
        queries: Queries | None,
        budget: Int[Tensor, " some"] | None = None,
    ) -> AttentionWindow:
        return AttentionWindow(
            part,
            queries,
            layer=self.index,
            seen=self._at(sequences[0]),
            first=self.first,
            batch=len(sequences),
            scale=self.scale,
            budget=budget,
        )

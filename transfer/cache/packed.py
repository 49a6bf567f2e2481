"""Ragged storage: the tokens of every (sequence, KV head) back to back in flat buffers.

A head that evicts more holds less: no padding to the longest head. Each head owns some free slots
behind its last token, so appending copies only the new tokens. "Row" below is one
(sequence, KV head) pair, `row = sequence * kv_heads + head`.
"""

from collections.abc import Sequence
from copy import copy
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.cache import kernels
from transfer.cache.codes import decoded, encoded

#: Free slots of a row that gets few tokens at a time.
SLACK = 16
#: Free slots of a row after an update, at most, where many tokens come at once: short windows are
#: appended in place, and a long one moves its row, which costs little beside its attention.
ROOM = 64


class PackedTokens:
    """Keys, values, positions and policy state of the tokens of one layer.

    Attributes:
        lengths: tokens held by each row.
        offsets: first slot of each row in the flat buffers.
        keys, values: `[slots, dim]` in the model's dtype.
        positions: `[slots]`, the index of each token in its sequence, evicted ones counted.
        starts, ends: `[rows]` on the device, the first slot and the one behind the last token.
        state: `[tokens, state_size]` of those tokens that the policy has observed, row after row
            without free slots.
        observed: how many of the first tokens of each row have a state.

    Args:
        key, value: their shapes, dtype and device.
        state_size: numbers of state a token.
        state_dtype: how they are stored, see `transfer.cache.codes`.
        slack: free slots a row that gets few tokens at a time; None: nothing is ever evicted, and a
            row without room grows by an eighth, so that copying stays linear.
    """

    def __init__(
        self,
        key: Float[Tensor, "batch kv_heads tokens dim"],
        value: Float[Tensor, "batch kv_heads tokens value_dim"],
        state_size: int,
        state_dtype: torch.dtype,
        slack: int | None,
    ) -> None:
        rows = key.shape[0] * key.shape[1]
        self.slack = slack
        self.lengths = [0] * rows
        self.offsets = [0] * rows
        self.capacity = [0] * rows
        self.keys = key.new_empty(0, key.shape[-1])
        self.values = value.new_empty(0, value.shape[-1])
        self.positions = torch.empty(0, dtype=torch.int32, device=key.device)
        self.starts = torch.zeros(rows, dtype=torch.long, device=key.device)
        self.ends = self.starts.clone()
        self.exact = torch.promote_types(key.dtype, torch.float32)
        self.state = torch.empty(0, state_size, dtype=state_dtype, device=key.device)
        self.observed = [0] * rows

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything held, the flat buffers first."""
        return self.keys, self.values, self.positions, self.state, self.starts, self.ends

    @property
    def longest(self) -> int:
        """Tokens in the longest row."""
        return max(self.lengths)

    @property
    def uniform(self) -> bool:
        """Whether all rows have the same length and room, so that a dense view exists."""
        return len(set(self.lengths)) == 1 and len(set(self.capacity)) == 1

    def dense(self, buffer: Tensor) -> Tensor:
        """`[rows, room, ...]` view of a buffer of a uniform store."""
        return buffer.view(len(self.lengths), self.capacity[0], *buffer.shape[1:])

    def row(self, buffer: Tensor, row: int, length: int | None = None) -> Tensor:
        """The first `length` (default: all) tokens of one row, a view."""
        start = self.offsets[row]
        return buffer[start : start + (self.lengths[row] if length is None else length)]

    def append(
        self,
        key: Float[Tensor, "batch kv_heads new dim"],
        value: Float[Tensor, "batch kv_heads new value_dim"],
        first: Sequence[int],
        valid: Bool[Tensor, "batch new"] | None,
    ) -> None:
        """Add new tokens behind each row; those that are not `valid` are padding, never stored.

        Args:
            key, value: of the new tokens.
            first: the index of each sequence's first new token in it.
            valid: None when all are real tokens.
        """
        heads, new = key.shape[1], key.shape[2]
        counts = [new] * key.shape[0] if valid is None else valid.sum(-1).tolist()
        counts = [count for count in counts for _ in range(heads)]
        self._reserve(counts)
        alike = valid is None and len(set(first)) == 1
        if alike and kernels.fused(key):
            self._append_in_one_launch(key, value, first[0])
            self._grown(counts)
            return
        exact = {"dtype": torch.int32, "device": key.device}
        start = first[0] if alike else 0
        positions = torch.arange(start, start + new, **exact)
        if not alike:
            place = positions if valid is None else valid.cumsum(-1, dtype=torch.int32) - 1
            positions = (place + torch.tensor(first, **exact)[:, None])[:, None]
        if valid is None and self.uniform:
            at = slice(self.lengths[0], self.lengths[0] + new)
            self.dense(self.keys)[:, at] = key.flatten(0, 1)
            self.dense(self.values)[:, at] = value.flatten(0, 1)
            held = self.dense(self.positions).view(*key.shape[:2], -1)
            held[:, :, at] = positions
        else:
            positions = positions.expand(key.shape[:3])
            slots = self._behind(new) if valid is None else self._slots(self._ends(), counts)
            chosen = slice(None) if valid is None else valid[:, None].expand(key.shape[:3])
            self.keys[slots] = key[chosen].reshape(-1, key.shape[-1])
            self.values[slots] = value[chosen].reshape(-1, value.shape[-1])
            self.positions[slots] = positions[chosen].reshape(-1)
        self._grown(counts)

    def _grown(self, counts: Sequence[int]) -> None:
        self.lengths = [length + count for length, count in zip(self.lengths, counts)]
        same = len(set(counts)) == 1
        self.ends = self.ends + (counts[0] if same else self._tensor(counts))

    def _append_in_one_launch(self, key: Tensor, value: Tensor, first: int) -> None:
        from transfer.cache.triton_kernels import append

        held, new = self.ends - self.starts, (key.flatten(0, 1), value.flatten(0, 1))
        append(self.keys, self.values, self.positions, self.starts, held, *new, first)

    def keep(
        self,
        kept: Bool[Tensor, "batch kv_heads tokens"],
        state: Float[Tensor, "batch kv_heads tokens size"],
        room: int,
    ) -> None:
        """Drop every token that is not `kept`, free its memory, and store the others' `state`.

        Args:
            kept: over tokens padded on the left, as `padded` gives them.
            state: the new policy state of the same tokens.
            room: free slots for each row.
        """
        flat = kept.flatten(0, 1)
        chosen, lengths = flat.flatten().nonzero()[:, 0], flat.sum(-1).tolist()
        self.state = encoded(state.flatten(0, 2).index_select(0, chosen), self.state.dtype)
        self.observed = list(lengths)
        self._repack(self._grid(flat.shape[1]).flatten()[chosen], lengths, room)

    def set_state(self, state: Float[Tensor, "batch kv_heads tokens size"]) -> None:
        """Store the state of every token, padded as `padded` gives them."""
        flat = state.flatten(0, 2)
        if min(self.lengths) < self.longest:
            flat = flat[self._slots(self._padded_starts(), self.lengths)]
        self.state = encoded(flat, self.state.dtype)
        self.observed = list(self.lengths)

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        offsets = [self.offsets[row] for row in rows]
        lengths = [self.lengths[row] for row in rows]
        self._repack(self._slots(offsets, lengths), lengths, self.slack or 0)
        starts, observed = _starts(self.observed), [self.observed[row] for row in rows]
        self.state = self.state[self._slots([starts[row] for row in rows], observed)]
        self.observed = observed

    def shortened(self, lengths: Sequence[int]) -> "PackedTokens":
        """The same buffers, up to each row's first `lengths` tokens; `mend` before use."""
        old = copy(self)
        old.lengths = list(lengths)
        return old

    def mend(self) -> None:
        """Where rows end is what their lengths say."""
        self.ends = self.starts + self._tensor(self.lengths)

    def part(self, rows: Sequence[int]) -> "PackedTokens":
        """A copy of some rows, without free slots."""
        part = copy(self)
        part.slack = 0
        part.select(rows)
        return part

    def fill(
        self,
        keys: Float[Tensor, "held dim"],
        values: Float[Tensor, "held value_dim"],
        positions: Int[Tensor, " held"],
        lengths: Sequence[int],
        capacity: Sequence[int],
    ) -> None:
        """Hold these tokens, row after row, and have as much room again as there was.

        Args:
            keys, values, positions: without free slots, as a `part` has them.
            lengths: tokens of each row.
            capacity: slots of each row.
        """
        self.lengths, self.capacity = list(lengths), list(capacity)
        self.offsets = _starts(self.capacity)
        slots, total = self._slots(self.offsets, self.lengths), sum(capacity)

        def spread(held: Tensor) -> Tensor:
            buffer = held.new_zeros(total, *held.shape[1:])
            buffer[slots] = held
            return buffer

        self.keys, self.values, self.positions = map(spread, (keys, values, positions))
        self.starts = self._tensor(self.offsets)
        self.mend()

    def put_state(self, rows: Sequence[int], part: "PackedTokens") -> None:
        """Take over the state that a `part` of these rows was given."""
        states, observed = list(self.state.split(self.observed)), list(self.observed)
        for row, state, count in zip(rows, part.state.split(part.observed), part.observed):
            states[row], observed[row] = state, count
        self.state, self.observed = torch.cat(states), observed

    def padded_state(self) -> Float[Tensor, "rows tokens size"]:
        """A copy of every token's state, padded on the left; zeros where there is none yet."""
        tokens, rows, size = self.longest, len(self.lengths), self.state.shape[-1]
        out = torch.zeros(rows, tokens, size, dtype=self.exact, device=self.state.device)
        state = decoded(self.state, self.exact)
        if min(self.lengths) == tokens and len(set(self.observed)) == 1:
            out[:, : self.observed[0]] = state.view(rows, self.observed[0], size)
        else:
            slots = self._slots(self._padded_starts(), self.observed)
            out.flatten(0, 1)[slots] = state
        return out

    def padded(self, buffer: Tensor, rows: slice = slice(None)) -> Tensor:
        """`[rows, tokens, ...]` copy of a buffer, padded with zeros on the left."""
        if self.uniform:
            return self.dense(buffer)[rows, : self.longest].clone()
        index, valid = self.index(rows)
        out = buffer[index.clamp(min=0)]
        if min(self.lengths[rows]) < self.longest:
            out.masked_fill_(~valid.view(*valid.shape, *[1] * (out.ndim - 2)), 0)
        return out

    def index(
        self, rows: slice = slice(None)
    ) -> tuple[Int[Tensor, "rows tokens"], Bool[Tensor, "rows tokens"]]:
        """Slot of every token of these rows, padded on the left to the longest row of all."""
        slot = self._grid(self.longest, rows)
        if self.uniform:
            return slot, torch.ones_like(slot, dtype=torch.bool)
        valid = slot >= self.starts[rows, None]
        return slot.masked_fill(~valid, -1), valid

    def _grid(self, tokens: int, rows: slice = slice(None)) -> Int[Tensor, "rows tokens"]:
        """The last slots of every row, some of another row where it holds fewer tokens."""
        return self.ends[rows, None] + torch.arange(-tokens, 0, device=self.ends.device)

    def _padded_starts(self) -> list[int]:
        """Where each row begins in a tensor that is padded on the left, its rows in one line."""
        return [self.longest * (row + 1) - length for row, length in enumerate(self.lengths)]

    def _ends(self) -> list[int]:
        return [offset + length for offset, length in zip(self.offsets, self.lengths)]

    def _tensor(self, numbers: Sequence[int]) -> Int[Tensor, " rows"]:
        return torch.tensor(numbers, device=self.keys.device)

    def _behind(self, new: int) -> Int[Tensor, " slots"]:
        """The next `new` free slots of every row."""
        return (self.ends[:, None] + torch.arange(new, device=self.ends.device)).flatten()

    def _slots(self, starts: Sequence[int], counts: Sequence[int]) -> Int[Tensor, " slots"]:
        """`starts[0], starts[0] + 1, ...` for each row, one after the other."""
        if len(set(counts)) == 1:
            steps = torch.arange(counts[0], device=self.keys.device)
            return (self._tensor(starts)[:, None] + steps).flatten()
        total, count = sum(counts), self._tensor(counts)
        start = self._tensor(starts) - (count.cumsum(0) - count)
        slots = torch.arange(total, device=count.device)
        return slots + start.repeat_interleave(count, output_size=total)

    def _reserve(self, counts: Sequence[int]) -> None:
        """Make room for `counts` more tokens in each row, and give back what is far too much."""
        needed = [length + count for length, count in zip(self.lengths, counts)]
        spare = min(room - need for room, need in zip(self.capacity, needed))
        if self.slack is None:
            room = max(counts) + max(needed) // 8
        elif spare > 2 * self.slack >= 2 * max(counts):
            # The prompt is over: rows that had room for a window get a few tokens at a time now.
            spare, room = -1, self.slack
        else:
            room = max(self.slack, *counts)
        if spare < 0:
            self._repack(self._slots(self.offsets, self.lengths), self.lengths, room)

    def _repack(self, source: Int[Tensor, " tokens"], lengths: Sequence[int], room: int) -> None:
        """Move the tokens in the slots `source` into new buffers with `room` free slots a row."""
        capacity = [length + room for length in lengths]
        offsets, slots = _starts(capacity), sum(capacity)
        index = torch.zeros(slots, dtype=torch.long, device=self.keys.device)
        if len(set(lengths)) == 1:
            index.view(len(lengths), -1)[:, : lengths[0]] = source.view(len(lengths), -1)
        else:
            index[self._slots(offsets, lengths)] = source

        def move(buffer: Tensor) -> Tensor:
            if len(source) == 0:
                return buffer.new_empty(slots, *buffer.shape[1:])
            return buffer.index_select(0, index)

        # One after the other, so that only one old buffer is alive beside its successor.
        self.keys = move(self.keys)
        self.values = move(self.values)
        self.positions = move(self.positions)
        self.lengths, self.capacity, self.offsets = list(lengths), capacity, offsets
        self.starts = self._tensor(offsets)
        self.ends = self.starts + self._tensor(lengths)


def _starts(counts: Sequence[int]) -> list[int]:
    """Where each row begins in a buffer that holds so many of each, one after the other."""
    return [0, *accumulate(counts[:-1])] if counts else []

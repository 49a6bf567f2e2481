"""Which column of a batch's input is which token of its sequence.

Sequences of unequal length share a batch by padding, and a later call may hide tokens that came
before. What a layer stores and counts are the sequences' own tokens, so that neither padding nor
company changes what a policy sees; here is how to find the columns again.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from transfer.errors import UserError


@dataclass(frozen=True)
class Columns:
    """The columns that went through a layer.

    Attributes:
        seen: how many.
        padding: which of the first are padding, on the CPU; those behind are not. None: none.
        dropped: which tokens a later mask hid, the same way.
    """

    seen: int = 0
    padding: Bool[Tensor, "batch first"] | None = None
    dropped: Bool[Tensor, "batch earlier"] | None = None

    def followed_by(self, new: int, valid: Bool[Tensor, "batch new"] | None) -> "Columns":
        """With new columns behind, those that are not `valid` being padding."""
        seen = self.seen + new
        if valid is None:
            return replace(self, seen=seen)
        padding = ~valid.cpu()
        before = torch.zeros(len(padding), self.seen, dtype=torch.bool)
        if self.padding is not None:
            before[:, : self.padding.shape[1]] = self.padding
        return replace(self, seen=seen, padding=torch.cat([before, padding], 1))

    def without(self, visible: Bool[Tensor, "batch seen"]) -> "Columns":
        """What is not visible any more is dropped."""
        hidden = ~visible.cpu()
        if self.padding is not None:
            hidden[:, : self.padding.shape[1]] &= ~self.padding
        return replace(self, dropped=hidden)

    def chosen(self, sequences: list[int]) -> "Columns":
        """Of these sequences, in this order."""
        padding, dropped = (
            None if part is None else part[sequences] for part in (self.padding, self.dropped)
        )
        return Columns(self.seen, padding, dropped)

    def of(self, tokens: Int[Tensor, " tokens"], sequence: int) -> Int[Tensor, " tokens"]:
        """The column of each token of a sequence, given as its index in the sequence."""
        if self.padding is None:
            return tokens
        real = (~self.padding[sequence]).nonzero()[:, 0].to(tokens)
        behind = tokens - len(real) + self.padding.shape[1]
        if not len(real):
            return behind
        early = real[tokens.long().clamp(max=len(real) - 1)]
        return torch.where(tokens < len(real), early, behind)

    def tokens(self, columns: Int[Tensor, "batch n"]) -> Int[Tensor, "batch n"]:
        """The index in its sequence of each column's token; -1: it has none, or none any more.

        Columns that have not come yet count as tokens, and -1 stays.
        """
        none, tokens = columns < 0, columns
        for part in (self.padding, self.dropped):
            if part is not None:
                last = columns.clamp(0, part.shape[1] - 1)
                none = none | ((columns < part.shape[1]) & part.gather(1, last))
        if self.padding is not None:
            before = torch.nn.functional.pad(self.padding.cumsum(1), (1, 0))
            tokens = columns - before.gather(1, columns.clamp(0, before.shape[1] - 1))
        return tokens.masked_fill(none, -1)

    def hidden(self, sequences: int) -> Bool[Tensor, "batch seen"]:
        """Padding and dropped tokens."""
        hidden = torch.zeros(sequences, self.seen, dtype=torch.bool)
        for part in (self.padding, self.dropped):
            if part is not None:
                hidden[:, : part.shape[1]] |= part
        return hidden

    def newly_hidden(self, visible: Bool[Tensor, "batch seen"]) -> bool:
        """Whether a mask over these columns hides more than was hidden before.

        Raises:
            UserError: it shows what was never stored, or was dropped.
        """
        visible, hidden = visible.cpu(), self.hidden(len(visible))
        shown = hidden & visible
        if shown.any():
            sequence, column = shown.nonzero()[0].tolist()
            raise UserError(
                f"the attention mask shows token {column} of sequence {sequence}, which an earlier "
                "mask hid and the pruned cache has let go; hide it in every later mask too, or "
                "begin with a new cache"
            )
        return bool((~visible & ~hidden).any())

"""Tokens that stay whatever a policy says: recent ones, sinks, and those a user names.

The first two are settings of `Pruning`; `PrunedCache.protect` names tokens while sequences run, or
before they come.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from transfer.arguments import shown
from transfer.cache.columns import Columns
from transfer.cache.packed import PackedTokens
from transfer.cache.policy import Pruning
from transfer.cache.window import AttentionWindow
from transfer.errors import MOST_TOKENS, UserError


@dataclass(frozen=True)
class Protected:
    """Columns of a batch's input whose tokens stay.

    Attributes:
        columns: of each sequence, on the CPU; -1 stands for none.
    """

    columns: Int[Tensor, "batch most"]

    @classmethod
    def of(cls, positions: Any, batch: int | None) -> "Protected":
        """What a user gives.

        Args:
            positions: `[batch, n]`, -1 for none.
            batch: how many sequences there are; None: any number.

        Raises:
            UserError: they are none of so many sequences.
        """
        remedy = "use whole numbers [sequences, n] from 0 on, -1 for none"
        try:
            columns = torch.as_tensor(positions)
        except (TypeError, ValueError, RuntimeError):
            raise UserError(f"positions is {shown(positions)}; {remedy}") from None
        whole = not (columns.is_floating_point() or columns.is_complex())
        plain = columns.layout is torch.strided and not columns.is_meta
        whole = (whole and columns.dtype is not torch.bool) or not columns.numel()
        if columns.ndim != 2 or not whole or not plain:
            kind = f"{list(columns.shape)} of {columns.dtype}{'' if plain else ', not dense'}"
            raise UserError(f"positions is {kind}; {remedy}")
        columns = columns.detach().long().cpu()
        if batch is not None and len(columns) != batch:
            raise UserError(
                f"positions are of {len(columns)} sequences and this cache is of {batch}; give a "
                "row for each, -1 for none"
            )
        wrong = columns[(columns < -1) | (columns > MOST_TOKENS)]
        if len(wrong):
            raise UserError(f"a position is {int(wrong[0])}; {remedy}")
        return cls(columns[:, :0]).joined(cls(columns))

    def joined(self, other: "Protected") -> "Protected":
        """Of both, each once."""
        columns = torch.cat([self.columns, other.columns], 1).sort(1).values
        again = columns[:, 1:] == columns[:, :-1]
        columns[:, 1:].masked_fill_(again, -1)
        columns = columns.sort(1).values
        # Sorted, rows begin with what stands for none.
        return Protected(columns[:, (columns >= 0).any(0)])

    def chosen(self, sequences: list[int]) -> "Protected":
        """Of these sequences, in this order."""
        return Protected(self.columns[sequences])

    def check_budget(self, pruning: Pruning, columns: Columns) -> None:
        """Raise `UserError` where more tokens than a budget in tokens would be protected."""
        if pruning.budget is None or pruning.is_share:
            return
        named = (columns.tokens(self.columns) >= pruning.sinks).sum(1)
        for sequence, count in enumerate(named.tolist()):
            if count and count + pruning.protected > pruning.budget:
                raise UserError(
                    f"sequence {sequence} would have {count} protected positions, beside "
                    f"{pruning.protected} tokens that stay anyway (keep_recent "
                    f"{pruning.keep_recent}, sinks {pruning.sinks}, the newest), in a budget of "
                    f"{pruning.budget}; raise the budget or protect fewer"
                )

    def check_held(self, store: PackedTokens, columns: Columns, first: int, layer: int) -> None:
        """Raise `UserError` where a token is not held any more by every head of a layer.

        Args:
            store: what is held.
            columns: that came.
            first: index of a sequence's first token in the store.
            layer: its index.
        """
        batch = len(self.columns)
        tokens = columns.tokens(self.columns).masked_fill(self.columns >= columns.seen, -1)
        index, valid = store.padded(store.positions).long() - first, store.index()[1]
        rows, width = len(index), columns.seen + 1
        held = torch.zeros(rows, width, dtype=torch.bool, device=index.device)
        held.scatter_(1, index.masked_fill(~valid, columns.seen), True)
        everywhere = held.unflatten(0, (batch, rows // batch)).all(1).cpu()
        lost = (tokens >= 0) & ~everywhere.gather(1, tokens.clamp(min=0))
        if lost.any():
            sequence, place = lost.nonzero()[0].tolist()
            raise UserError(
                f"token {int(self.columns[sequence, place])} of sequence {sequence} has left layer "
                f"{layer} already; protect it before the update that evicts it, which may be before"
                " it comes"
            )


def protection(
    pruning: Pruning, named: Int[Tensor, "some most"] | None, window: AttentionWindow
) -> Bool[Tensor, "some kv_heads tokens"] | None:
    """Which tokens stay whatever the policy says; None: none but the newest.

    Args:
        pruning: the settings.
        named: indices of tokens in their sequences, -1 for none.
        window: the tokens.
    """
    if named is None and not (pruning.keep_recent or pruning.sinks):
        return None
    stays = torch.zeros_like(window.valid)
    stays[..., -max(pruning.keep_recent, 1) :] = True
    index = window.positions - window.first
    if pruning.sinks:
        stays |= index < pruning.sinks
    if named is not None:
        # The last place is for those that are none, or have not come yet.
        came = window.seen - window.first
        places = named.to(stays.device)
        places = places.masked_fill((places < 0) | (places >= came), came)
        table = torch.zeros(len(places), came + 1, dtype=torch.bool, device=stays.device)
        table.scatter_(1, places, True)[:, came] = False
        stays |= table.gather(1, index.long().clamp(min=0).flatten(1)).view_as(stays)
    return stays & window.valid

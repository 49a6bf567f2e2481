"""What rules share that keep the first tokens of a sequence themselves, as their papers do."""

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.cache.window import AttentionWindow
from transfer.errors import UserError


def check_sinks(name: str, sinks: int) -> None:
    """Raise `UserError` unless so many tokens can be the first."""
    if sinks < 0:
        raise UserError(f"{name} cannot keep {sinks} sinks; use 0 or more")


def sinks_first(
    scores: Float[Tensor, "batch kv_heads tokens"], window: AttentionWindow, sinks: int
) -> Float[Tensor, "batch kv_heads tokens"]:
    """The scores with the first tokens of a sequence before all others, infinite ones too.

    They count within the budget, of which the newest token has one: where it cannot hold all of
    them, the first of them stay. Without a budget all stay.
    """
    room: int | Tensor = sinks
    if window.budget is not None:
        room = (window.budget - 1).clamp(max=sinks)[:, None, None]
    below = scores.clamp(max=torch.finfo(scores.dtype).max / 2)
    return below.masked_fill(window.positions - window.first < room, torch.inf)

"""Families that cannot be pruned for a reason that their code shows, not their configuration."""

from transfer.attachment.adapter import Adapter
from transfer.errors import UserError

_LOOPS = "runs its layers several times over, in rounds that share or multiply their cache"
_OWN_CACHE = "keeps a cache of its own kind, beside which no other can be used"
_RESIDUAL = "also attends to what its earlier layers put out"
_SHARED = "shares one attention among several of its layers"
REASONS = {
    "diffllama": "calls its attention twice in every layer, with different values",
    "dory": _LOOPS,
    "hrm_text": _LOOPS,
    "inkling2_loop_text": _RESIDUAL,
    "inkling2_text": _RESIDUAL,
    "jetmoe": "repeats its keys for every expert between its cache and its attention",
    "minimax": _OWN_CACHE,
    "xlstm": _OWN_CACHE,
    "zamba": _SHARED,
    "zamba2": _SHARED,
}


class RefusedAdapter(Adapter):
    """A family of `REASONS`."""

    def refuse(self) -> None:
        """Raise `UserError`, always."""
        kind = str(self.model.config.model_type)
        raise UserError(f"{kind} {REASONS[kind]}; it cannot be pruned yet, use another model")

"""`NAMMPress`: a NAMM that scores inside kvpress, in its pipeline and its evaluation.

kvpress asks for an older transformers than the rest of this package, so this is for an environment
of kvpress' own (docs/how-to/kvpress.md), and takes from here the NAMM alone, which is pure torch.
"""

from dataclasses import dataclass
from typing import Any

import torch
from kvpress import ScorerPress  # pyright: ignore[reportMissingImports]
from kvpress.utils import get_prerope_query_states  # pyright: ignore[reportMissingImports]
from torch import Tensor
from transformers.models.llama.modeling_llama import rotate_half

from transfer.errors import UserError
from transfer.namm.network import NAMM
from transfer.namm.prompt import prompt_scores


@dataclass
class NAMMPress(ScorerPress):  # pyright: ignore[reportGeneralTypeIssues]
    """Keeps the tokens of a prompt that a NAMM scores highest, in each head as many.

    Args:
        compression_ratio: the fraction that leaves.
        namm: a NAMM, the name of one that ships, a folder or a Hub id.

    Raises:
        UserError: there is no such NAMM.
    """

    compression_ratio: float = 0.0
    namm: NAMM | str = "recall"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.namm, NAMM):
            self.namm = NAMM.from_pretrained(self.namm)

    def score(
        self,
        module: Any,
        hidden_states: Tensor,
        keys: Tensor,
        values: Tensor,
        attentions: Tensor | None,
        kwargs: dict[str, Any],
    ) -> Tensor:
        """Scores `[batch, kv_heads, tokens]`; the newest token has the highest.

        Raises:
            UserError: the queries of some tokens are gone, as while decoding.
        """
        asked, held = hidden_states.shape[1], keys.shape[2]
        if asked != held:
            raise UserError(
                f"NAMMPress was given {asked} queries of {held} tokens, and a NAMM needs all: let "
                "it prune once, after a prompt that is read whole (no DecodingPress, no cache that "
                "was begun), or attach the NAMM with transfer.attach"
            )
        assert isinstance(self.namm, NAMM)
        cos, sin = (part.unsqueeze(1) for part in kwargs["position_embeddings"])
        query = get_prerope_query_states(module, hidden_states)
        query = query * cos + rotate_half(query) * sin
        scale = getattr(module, "scaling", module.head_dim**-0.5)
        scores = prompt_scores(self.namm, query, keys, values, scale)
        scores[..., -1] = torch.finfo(scores.dtype).max
        return scores

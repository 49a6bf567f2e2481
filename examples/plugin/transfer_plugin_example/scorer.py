"""How a NAMM judges a token: `NAMMConfig(scorer="example_scorer")`."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from transfer.namm.scorers import Scorer, Shapes, affine


class Rivals(Scorer):
    """A token is worth less, or more, by the best of the newer ones."""

    def shapes(self, width: int, hidden: int, bias: bool) -> Shapes:
        """One weight a number, a bias, and how much the rival counts."""
        return {"score": (width, 1), "score_bias": (1,), "rival": (1,)}

    def scores(
        self,
        features: Float[Tensor, "population sequences tokens width"],
        parameters: Mapping[str, Tensor],
    ) -> Float[Tensor, "population sequences tokens"]:
        """s + c max(s of this and of all newer), for s = x w + b.

        Tokens stand from old to new, padding first: who looks only to the right never sees it.
        """
        own = affine(features, parameters["score"], parameters["score_bias"]).squeeze(-1)
        best = own.flip(-1).cummax(-1).values.flip(-1)
        return own + parameters["rival"][:, None] * best


RIVALS = Rivals()

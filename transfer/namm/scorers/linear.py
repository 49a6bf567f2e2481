"""`linear`, a weighted sum of what is read of a token: no attention, no hidden layer."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from transfer.namm.scorers.base import Scorer, Shapes, affine


class Linear(Scorer):
    """One weight a number, and a bias."""

    def shapes(self, width: int, hidden: int, bias: bool) -> Shapes:
        """Score [width, 1], its bias; `hidden` and `bias` change nothing."""
        return {"score": (width, 1), "score_bias": (1,)}

    def scores(
        self,
        features: Float[Tensor, "population sequences tokens width"],
        parameters: Mapping[str, Tensor],
    ) -> Float[Tensor, "population sequences tokens"]:
        """score = x w + b."""
        return affine(features, parameters["score"], parameters["score_bias"]).squeeze(-1)


LINEAR = Linear()

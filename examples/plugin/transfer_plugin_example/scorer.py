"""How a NAMM judges a token: `NAMMConfig(scorer="example_scorer")`."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from transfer.namm.scorers import Scorer, Shapes, affine


class Linear(Scorer):
    """A weighted sum of what is read."""

    def shapes(self, width: int, hidden: int, bias: bool) -> Shapes:
        """One weight a number, and a bias."""
        return {"score": (width, 1), "score_bias": (1,)}

    def scores(
        self,
        features: Float[Tensor, "population sequences tokens width"],
        parameters: Mapping[str, Tensor],
    ) -> Float[Tensor, "population sequences tokens"]:
        """x w + b, each member of the population with its own."""
        return affine(features, parameters["score"], parameters["score_bias"]).squeeze(-1)


LINEAR = Linear()

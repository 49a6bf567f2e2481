"""A scorer from outside: a weighted sum of what is read of a token."""

from transfer.namm.scorers import Scorer, affine


class Linear(Scorer):
    """One weight a number, and a bias."""

    def shapes(self, width, hidden, bias):
        return {"score": (width, 1), "score_bias": (1,)}

    def scores(self, features, parameters):
        return affine(features, parameters["score"], parameters["score_bias"]).squeeze(-1)


LINEAR = Linear()

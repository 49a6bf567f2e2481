"""A NAMM judges tokens by a network of your own, here a weighted sum.

python examples/add_scorer.py
"""

import torch

from transfer import NAMM, NAMMConfig, attach, register
from transfer.adapters.language_model import load_language_model
from transfer.namm.scorers import Scorer, affine
from transfer.tasks.recall import TASKS, make_batch


class Linear(Scorer):
    """score = x w + b."""

    def shapes(self, width, hidden, bias):
        """How the flat vector that evolution searches is cut into pieces."""
        return {"score": (width, 1), "score_bias": (1,)}

    def scores(self, features, parameters):
        """Scores [population, sequences, tokens] of features [population, sequences, tokens, x]."""
        return affine(features, parameters["score"], parameters["score_bias"]).squeeze(-1)


if __name__ == "__main__":
    register("scorer", "weighted", Linear())
    config = NAMMConfig(features="log", scorer="weighted")
    torch.manual_seed(0)
    namm = NAMM(config, torch.randn(config.size))
    model = load_language_model("llama-recall").model
    document = make_batch(TASKS["recall"], 256, range(4)).ids
    with attach(model, namm, update_interval=32, budget=48) as memory, torch.no_grad():
        model(document, cache=memory.new_cache())
    print(f"{config.size} parameters")
    print(memory.report())

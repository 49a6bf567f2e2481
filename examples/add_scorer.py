"""A NAMM judges tokens by a network of your own, here each beside the best of the newer ones.

From outside it is `NAMMConfig(scorer="add_scorer:RIVALS")`.

python examples/add_scorer.py
"""

import torch

from transfer import NAMM, NAMMConfig, attach, register
from transfer.adapters.language_model import load_language_model
from transfer.namm.scorers import Scorer, affine
from transfer.tasks.recall import TASKS, make_batch


class Rivals(Scorer):
    """score = s + c max(s of this and of all newer), for s = x w + b."""

    def shapes(self, width, hidden, bias):
        """How the flat vector that evolution searches is cut into pieces."""
        return {"score": (width, 1), "score_bias": (1,), "rival": (1,)}

    def scores(self, features, parameters):
        """Scores [population, sequences, tokens] of features [population, sequences, tokens, x].

        Tokens stand from old to new, padding first: who looks only to the right never sees it.
        """
        own = affine(features, parameters["score"], parameters["score_bias"]).squeeze(-1)
        best = own.flip(-1).cummax(-1).values.flip(-1)
        return own + parameters["rival"][:, None] * best


RIVALS = Rivals()

if __name__ == "__main__":
    register("scorer", "rivals", RIVALS)
    config = NAMMConfig(features="log", scorer="rivals")
    torch.manual_seed(0)
    namm = NAMM(config, torch.randn(config.size))
    model = load_language_model("llama-recall").model
    document = make_batch(TASKS["recall"], 256, range(4)).ids
    with attach(model, namm, update_interval=32, budget=48) as memory, torch.no_grad():
        model(document, cache=memory.new_cache())
    print(f"{config.size} parameters")
    print(memory.report())

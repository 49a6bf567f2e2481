"""A NAMM reads a feature of your own; from outside it is `NAMMConfig("add_feature:RECEIVED")`.

python examples/add_feature.py
"""

import torch

from transfer import NAMM, NAMMConfig, attach, register
from transfer.adapters.language_model import load_language_model
from transfer.namm.features import Feature
from transfer.tasks.recall import TASKS, make_batch


class Received(Feature):
    """The attention that a token received, fading."""

    state_size = 1
    width = 1

    def accumulate(self, window, state, gamma):
        """Every query is seen once; a fold goes over their attention in blocks."""
        faded = state[..., 0] * gamma**window.queries
        return window.fold(lambda block: block.sum(1), faded)[..., None]


RECEIVED = Received()

if __name__ == "__main__":
    register("feature", "received", RECEIVED)
    config = NAMMConfig(features="received", scorer="mlp", hidden=8)
    torch.manual_seed(0)
    namm = NAMM(config, torch.randn(config.size))
    model = load_language_model("llama-recall").model
    document = make_batch(TASKS["recall"], 256, range(4)).ids
    with attach(model, namm, update_interval=32, budget=48) as memory, torch.no_grad():
        model(document, cache=memory.new_cache())
    print(f"{config.size} parameters, as `transfer evolve` would search them")
    print(memory.report())

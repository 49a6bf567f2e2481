"""A rule of your own prunes a cache; from the command line it is `--policy add_policy:Middle`.

python examples/add_policy.py
"""

from dataclasses import dataclass

import torch

from transfer import Policy, attach
from transfer.adapters.language_model import load_language_model
from transfer.tasks.recall import TASKS, make_batch


@dataclass(frozen=True)
class Middle(Policy):
    """Keeps the middle of the document, and the newest tokens."""

    newest: int = 16
    name = "middle"

    def score(self, window, state):
        """Higher stays longer; the state is what the rule remembers of tokens, here nothing."""
        position = window.positions.to(state.dtype)
        last = position.amax(-1, keepdim=True)
        from_the_middle = -(position - last / 2).abs()
        return torch.where(position > last - self.newest, position, from_the_middle), state


if __name__ == "__main__":
    model = load_language_model("llama-recall").model
    document = make_batch(TASKS["recall"], 256, range(4)).ids
    with attach(model, Middle(), update_interval=32, budget=48) as memory, torch.no_grad():
        model(document, cache=memory.new_cache())
    print(memory.report())

"""A feature from outside: the attention that a token received, older queries counting less."""

import torch

from transfer.namm.features import Feature


class Received(Feature):
    """One number a token; the scorer reads it and its logarithm."""

    state_size = 1
    width = 2

    def accumulate(self, window, state, gamma):
        def received(block):
            ages = torch.arange(block.shape[1] - 1, -1, -1, dtype=block.dtype, device=block.device)
            return torch.einsum("rqt,q->rt", block, gamma**ages)[..., None]

        return window.fold(received, state.mul_(gamma**window.queries))

    def transform(self, state):
        return torch.cat([state, (state + 1e-4).log()], -1)


RECEIVED = Received()

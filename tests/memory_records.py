"""Random records on disk, shared by tests."""

import torch

from transfer.replay.recording import LayerStates
from transfer.replay.records import Record, write_record


def saved(path, rows=2, tokens=32, layers=2, seed=0, modality="language", window=None):
    generator = torch.Generator().manual_seed(seed)

    def some(heads):
        return torch.randn(rows, heads, tokens, 4, generator=generator)

    states = {i: LayerStates(some(4), some(2), some(2), 1e-4 * some(4), 0.5) for i in range(layers)}
    about = {"model": "tiny", "task": "noise", "modality": modality, "window": window}
    write_record(path, states, 0, about)
    return Record(path)

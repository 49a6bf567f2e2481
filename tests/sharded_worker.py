"""One of two processes that share a model, and the run by which all ways of sharding are compared.

Started by torchrun, with the words of `main`.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.distributed import DistributedConfig

from transfer import NAMM, attach
from transfer.adapters.language_model import load_language_model

#: Policy and budget. Without a budget the heads of a NAMM's cache differ in length.
CASES: list[tuple[str, int | None]] = [("namm", None), ("namm", 24), ("h2o", 24)]


def pruned_run(model: PreTrainedModel, policy: str, budget: int | None) -> dict[str, Any]:
    """What a model says and keeps after several updates, with padding in one of two sequences."""
    ids = torch.randint(3, 97, (2, 150), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, :7] = 0
    chosen = NAMM.from_pretrained("recall") if policy == "namm" else policy
    with attach(model, chosen, update_interval=32, budget=budget) as memory, torch.no_grad():
        read, reply = memory.new_cache(), memory.new_cache()
        logits = model(ids, attention_mask=mask, cache=read).logits
        said = model.generate(
            ids, attention_mask=mask, cache=reply, max_new_tokens=12, do_sample=False
        )
    return {
        "logits": logits,
        "said": said,
        "kept": [read.kept(), reply.kept()],
        "held": [read.held(sequence).tokens for sequence in range(2)],
        "devices": {str(state.device) for layer in read.pruned for state in layer.tensors()},
        "report": str(memory.report()),
    }


def main(folder: str, out: str, script: str, *words: str) -> None:
    """Run all cases tensor parallel and, where a layer lies on one process, pipeline parallel.

    Then a script, in the same processes, since starting them takes longest.
    """
    torch.set_num_threads(1)
    results = {}
    ways = {"tensor": DistributedConfig(tp_size=2), "pipeline": DistributedConfig(pp_size=2)}
    for way, config in ways.items():
        model = load_language_model(folder, distributed_config=config).model
        for case in CASES:
            results[way, *case] = pruned_run(model, *case)
    torch.save(results, Path(out) / f"{os.environ['RANK']}.pt")
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])

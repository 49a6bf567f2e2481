"""NAMMs beside presses of kvpress: how well a model predicts what follows a context they pruned.

Run where kvpress is (docs/how-to/kvpress.md), on files of text:

    python examples/kvpress_press.py HuggingFaceTB/SmolLM2-135M-Instruct a.txt b.txt
"""

import argparse
from contextlib import nullcontext
from pathlib import Path

import torch
from kvpress import (  # pyright: ignore[reportMissingImports]
    ExpectedAttentionPress,
    KnormPress,
    SnapKVPress,
    StreamingLLMPress,
)
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from transfer.kvpress import NAMMPress

CONTEXT, REST, REMOVED = 1024, 256, 0.75
PRESSES = {
    "none": None,
    "NAMM recall": NAMMPress(REMOVED),
    "NAMM universal": NAMMPress(REMOVED, namm="universal"),
    "SnapKV": SnapKVPress(REMOVED),
    "Expected Attention": ExpectedAttentionPress(REMOVED),
    "StreamingLLM": StreamingLLMPress(REMOVED),
    "Knorm": KnormPress(REMOVED),
}


@torch.no_grad()
def log_likelihood(model, ids, press) -> float:
    """Of a token behind the context, on average."""
    cache = DynamicCache()
    with press(model) if press else nullcontext():
        model.model(input_ids=ids[:, :CONTEXT], past_key_values=cache)
    positions = torch.arange(CONTEXT, ids.shape[1])[None]
    rest = ids[:, CONTEXT:]
    logits = model(input_ids=rest, past_key_values=cache, position_ids=positions).logits
    return -float(cross_entropy(logits[0, :-1], rest[0, 1:]))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("files", nargs="+", type=Path)
    told = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(told.model)
    model = AutoModelForCausalLM.from_pretrained(told.model, dtype=torch.float32)
    texts = [file.read_text() for file in told.files]
    all_ids = [tokenizer(text, return_tensors="pt").input_ids for text in texts]
    print(f"{'log-likelihood of a token':26}", *(f"{file.name:>12}" for file in told.files))
    for name, press in PRESSES.items():
        found = [log_likelihood(model, ids[:, : CONTEXT + REST], press) for ids in all_ids]
        print(f"{name:26}", *(f"{each:12.3f}" for each in found), flush=True)


if __name__ == "__main__":
    main()

"""The support matrix of the README: what each kind of model can do with a pruned cache.

    python tests/support.py

prints it. Every cell is a check on a tiny random model; `tests/test_support.py` runs them all and
compares the README.
"""

import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache as remembered

import families
import tiny
import torch
from accelerate import dispatch_model
from torch import Tensor
from transformers import PreTrainedModel

from transfer import attach, check_adapter

#: NO: no such thing is asked of it, or the model itself cannot.
YES, NO = "✓", "–"
INTERVAL, BUDGET = 32, 0.4
#: What the README calls them, and the family that stands for them.
ROWS = {
    "Llama, SmolLM2, Mistral, Phi": "llama",
    "Qwen3": "qwen3",
    "Mixtral (experts)": "mixtral",
    "GPT-2": "gpt2",
    "Gemma 3 (attention windows)": "gemma3_text",
    "Llama 4 (chunked attention)": "llama4_text",
    "Falcon-H1 (recurrent states)": "falcon_h1",
    "LLaVA-NeXT-Video": "llava_next_video",
    "LLaVA-OneVision": "llava_onevision",
    "Qwen2-VL": "qwen2_vl",
    "Qwen2.5-VL": "qwen2_5_vl",
    "SmolVLM2": "smolvlm",
    "Decision Transformer": "decision_transformer",
}


@remembered
def model_of(family: str) -> PreTrainedModel:
    """A tiny random model, the same every time."""
    if family == "decision_transformer":
        torch.manual_seed(0)
        return tiny.decision_transformer()
    return families.build_video(family) if family in families.VIDEO else families.build(family)


def _exact(model: PreTrainedModel) -> str:
    check = check_adapter(model)
    assert check.ok, check
    whole = check.pruned_layers == check.layers
    return YES if whole else f"{check.pruned_layers} of {check.layers} layers"


def _half(model: PreTrainedModel) -> str:
    dtype = model.dtype
    try:
        check = check_adapter(model.bfloat16())
    finally:
        model.to(dtype)
    assert check.ok, check
    return YES


def _ids(rows: int, tokens: int) -> Tensor:
    return torch.randint(20, 40, (rows, tokens), generator=torch.Generator().manual_seed(1))


def _logits(model: PreTrainedModel, calls: list[Tensor], **given: Tensor) -> Tensor:
    with attach(model, "h2o", INTERVAL, BUDGET) as memory, torch.no_grad():
        cache = memory.new_cache()
        return torch.cat([model(input_ids=ids, cache=cache, **given).logits for ids in calls], 1)


def _same(ours: Tensor, theirs: Tensor) -> str:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3 * float(theirs.abs().max()))
    return YES


def _batch(model: PreTrainedModel) -> str:
    ids, padding = _ids(2, 100), 17
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    given = {"attention_mask": mask}
    if model.config.model_type == "gpt2":  # a table of positions, which `generate` gives, too
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(0)
    together = _logits(model, [ids], **given)
    _same(together[:1, padding:], _logits(model, [ids[:1, padding:]]))
    return _same(together[1:], _logits(model, [ids[1:]]))


def _chunks(model: PreTrainedModel) -> str:
    ids = _ids(1, 100)
    return _same(_logits(model, list(ids.split([41, 1, 50, 8], 1))), _logits(model, [ids]))


def _generate(model: PreTrainedModel, beams: int = 1) -> str:
    ids, settings = _ids(2, 70), {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    with attach(model, "full") as memory:
        ours = model.generate(ids, cache=memory.new_cache(), num_beams=beams, **settings)
    assert torch.equal(ours, model.generate(ids, num_beams=beams, **settings))
    with attach(model, "h2o", INTERVAL, BUDGET) as memory:
        model.generate(ids, cache=memory.new_cache(), num_beams=beams, **settings)
        held = [tokens for layer in memory.cache.kept() for row in layer for tokens in row]
        assert max(held) < ids.shape[1]
    return YES


def _beams(model: PreTrainedModel) -> str:
    return _generate(model, beams=3)


def _offloaded(model: PreTrainedModel) -> str:
    expected = _logits(model, [_ids(1, 80)])
    copy = deepcopy(model)
    blocks: dict[str, str | int] = {name: "disk" for name, _ in copy.named_children()}
    with tempfile.TemporaryDirectory() as folder:
        spread = dispatch_model(copy, blocks, "cpu", offload_dir=folder, force_hooks=True)
        assert any(parameter.is_meta for parameter in spread.parameters())
        return _same(_logits(spread, [_ids(1, 80)]), expected)


#: In the order of the README's columns.
COLUMNS: dict[str, Callable[[PreTrainedModel], str]] = {
    "pruned and exact": _exact,
    "bfloat16": _half,
    "padded batches": _batch,
    "prompts in chunks": _chunks,
    "`generate`": _generate,
    "beams": _beams,
    "`device_map`": _offloaded,
}


def cell(family: str, column: str) -> str:
    """What the README says of a family and an ability; an ability that fails is an error."""
    if family == "decision_transformer" and column not in ("pruned and exact", "bfloat16"):
        return NO
    # Nor does it run without a pruned cache, whole on disk: "cannot copy out of meta tensor".
    if (family, column) == ("llama4_text", "`device_map`"):
        return NO
    return COLUMNS[column](model_of(family))


def table() -> Iterator[str]:
    """The lines of the README's matrix."""
    yield "| | " + " | ".join(COLUMNS) + " |"
    yield "|---" * (1 + len(COLUMNS)) + "|"
    for name, family in ROWS.items():
        yield f"| {name} | " + " | ".join(cell(family, column) for column in COLUMNS) + " |"


if __name__ == "__main__":
    families.quiet()
    print("\n".join(table()))

"""One side of `benchmarks.kvpress`: reads jobs from stdin, writes what was measured to stdout.

Run with the python of either environment, `python -m benchmarks.kvpress_worker FOLDER` from the
repository's root; it imports kvpress or our package only for the jobs of that tool. Each job is
measured in a process forked after the model is loaded, and after a short prompt of the same kind.
"""

import inspect
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from benchmarks.kvpress_measure import Step, decode, in_a_fork, measure, update_seconds

#: Tokens of the prompt before what is measured: long enough for every method to evict.
WARM_UP = 600
#: The window and the pooling of SnapKV are the same on both sides.
OBSERVE = 64
#: Tokens between two of our updates.
INTERVAL = 512

#: Makes a cache, and is entered for the prefill.
Side = tuple[Callable[[], Any], Callable[[], AbstractContextManager[Any]]]
Job = dict[str, Any]


def stock(model: PreTrainedModel, job: Job, stack: ExitStack) -> Side:
    """Nothing but transformers, the full cache."""
    return DynamicCache, nullcontext


def kvpress(model: PreTrainedModel, job: Job, stack: ExitStack) -> Side:
    """As kvpress' own pipeline does it: hooks during the prefill, none while decoding."""
    import kvpress

    name, ratio = job["method"], 1 - job["asked"]
    if name == "ObservedAttentionPress":
        model.set_attn_implementation("eager")
    snap = kvpress.SnapKVPress(ratio, window_size=OBSERVE)
    wider = {"SnapKVPress": snap, "AdaKVPress": kvpress.AdaKVPress(snap)}
    press = wider.get(name) or getattr(kvpress, name)(ratio)
    return DynamicCache, lambda: press(model)


def transfer(model: PreTrainedModel, job: Job, stack: ExitStack) -> Side:
    """A policy laid on the model until the end."""
    from transfer import NAMM, attach

    name = job["method"]
    settings = {"observe": OBSERVE} if name == "snapkv" else {}
    policy = NAMM.from_pretrained("recall") if name == "namm" else name
    budget = None if name == "full" else job["asked"]
    memory = attach(model, policy, INTERVAL, budget, **settings)
    return stack.enter_context(memory).new_cache, nullcontext


SIDES = {"transformers": stock, "kvpress": kvpress, "transfer": transfer}
#: Of tools whose package has another name.
PACKAGES = {"transfer": "namm-transfer"}


def stepping(model: PreTrainedModel, cache: Any) -> Step:
    """The model on a cache, positions given: kvpress' cache does not know how many it has seen."""
    named = "cache" in inspect.signature(model.forward).parameters
    argument = "cache" if named else "past_key_values"

    def step(ids: Tensor, first: int) -> Tensor:
        positions = torch.arange(first, first + ids.shape[1])[None]
        given = {"input_ids": ids, "position_ids": positions, argument: cache}
        return model(**given, logits_to_keep=1).logits[:, -1]

    return step


@torch.no_grad()
def run_job(model: PreTrainedModel, ids: Tensor, job: Job) -> dict[str, float]:
    """One measurement."""

    def beside() -> list[object]:
        # kvpress' way to evict from single heads: what it masks is remembered on the modules.
        return [getattr(module, "masked_key_indices", None) for module in model.modules()]

    with ExitStack() as stack:
        new_cache, prefilling = SIDES[job["tool"]](model, job, stack)
        step = stepping(model, new_cache())
        with prefilling():
            step(ids[:, :WARM_UP], 0)
        decode(step, ids[:, :1], WARM_UP, 2)
        cache, context = new_cache(), job["context"]
        step = stepping(model, cache)
        measured = measure(step, cache, ids[:, :context], prefilling, beside)
        if job["tool"] == "transfer":
            measured["update_s"] = update_seconds(step, ids, cache.get_seq_length(), INTERVAL)
    return measured


def main() -> None:
    """Measure the jobs, each in a fork."""
    torch.set_num_threads(1)
    disable_progress_bar()
    request = json.load(sys.stdin)
    model = AutoModelForCausalLM.from_pretrained(
        sys.argv[1], dtype=torch.float32, trust_remote_code=False
    ).eval()
    ids = torch.tensor([request["ids"]])
    results = [{**job, **in_a_fork(run_job, model, ids, job)} for job in request["jobs"]]
    for result in results:
        result["tool"] += f" {version(PACKAGES.get(result['tool'], result['tool']))}"
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()

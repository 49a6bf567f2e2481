"""What a user would pick instead: kvpress, in an environment of its own, beside ours.

Both run the same weights on the same tokens and are measured by the same code
(`kvpress_measure`), every measurement in a process of its own. Ratios are to plain transformers
with a full cache in the same environment: kvpress needs an older transformers than we do.

What differs by design: kvpress evicts once, after the prompt, so a layer is whole until then and
grows from there on (`DecodingPress` would evict again). We evict every 512 tokens, in the prompt
and after it, and hold what the next time needs: positions, recent queries, policy state, free
slots. A step that evicts while decoding is timed apart, as `update_ms`. Besides, half of what H2O
keeps is recent, which ObservedAttentionPress has not, and AdaKVPress (over SnapKVPress) masks what
it takes from single heads. Random weights make it a matter of time and memory, not of answers.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.measure import Row
from transfer.adapters.loading import quiet
from transfer.errors import UserError
from transfer.evaluation.tables import new_table

TITLE = (
    "kvpress beside transfer: Llama of 4 layers, 8 heads, 4 KV heads of 64, float32, one thread; "
    "MB of the cache after the prompt and 192 tokens later; peak MB of the process over the model"
)
#: Shares kept, by context.
KEPT = {2048: (0.25,), 8192: (0.5, 0.25, 0.1)}
#: Tool and method, equal methods beside each other.
METHODS = (
    ("kvpress", "KnormPress"),
    ("transfer", "l2_norm"),
    ("kvpress", "StreamingLLMPress"),
    ("transfer", "recency"),
    ("kvpress", "TOVAPress"),
    ("transfer", "tova"),
    ("kvpress", "SnapKVPress"),
    ("transfer", "snapkv"),
    ("kvpress", "ObservedAttentionPress"),
    ("transfer", "h2o"),
    ("kvpress", "AdaKVPress"),
    ("transfer", "namm"),
)
VOCABULARY = 4096
#: Longest prompt whose whole attention matrix is made: of 8192 tokens it has 2 GB, in each copy.
LONGEST_MATRIX = 2048

Job = dict[str, Any]


def kvpress_python(path: str | None = None) -> str:
    """The python of the environment with kvpress: `path`, or what KVPRESS_PYTHON says.

    Raises:
        UserError: there is none, and how to make it.
    """
    python = shutil.which(path or os.environ.get("KVPRESS_PYTHON", ""))
    look = "from importlib.metadata import version; version('kvpress')"
    if python is None or subprocess.run([python, "-c", look], capture_output=True).returncode:
        release = torch.__version__.partition("+")[0]
        raise UserError(
            "the comparison with kvpress is left out: KVPRESS_PYTHON names no python that has it; "
            "make one with `python -m venv kvpress-venv` and "
            f"`kvpress-venv/bin/pip install torch=={release} kvpress==0.5.5`, "
            "then set KVPRESS_PYTHON=kvpress-venv/bin/python"
        )
    return str(Path(python).absolute())


def write_model(folder: str) -> None:
    """Write a model of random weights that both versions of transformers read."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=16384,
        bos_token_id=None,
        eos_token_id=None,
    )
    with quiet():
        LlamaForCausalLM(config).save_pretrained(folder)


def jobs_of(tool: str, context: int) -> list[Job]:
    """What is measured in the environment of a tool, plain transformers first."""
    whole = ("transformers", "transfer") if tool == "transfer" else ("transformers",)
    asked = [(name, "full", 1.0) for name in whole]
    asked += [
        (name, method, kept)
        for kept in KEPT[context]
        for name, method in METHODS
        if name == tool and (method != "ObservedAttentionPress" or context <= LONGEST_MATRIX)
    ]
    return [dict(zip(("tool", "method", "asked"), job), context=context) for job in asked]


def measured(python: str, folder: str, ids: list[int], jobs: list[Job]) -> list[Job]:
    """The jobs and what was measured, by a worker in the environment of this python."""
    done = subprocess.run(
        # By module: run by its path, the worker would take this very file for kvpress.
        [python, "-m", "benchmarks.kvpress_worker", folder],
        input=json.dumps({"ids": ids, "jobs": jobs}),
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def as_row(job: Job, plain: Job) -> Row:
    """A measurement beside that of plain transformers in the same environment."""
    return {
        "tool": job["tool"],
        "method": job["method"],
        "context": job["context"],
        "asked": job["asked"],
        "kept": round(job["kept"], 3),
        "prefill_s": round(job["prefill_s"], 2),
        "prefill_ratio": round(job["prefill_s"] / plain["prefill_s"], 2),
        "decode_ms": round(1e3 * job["decode_s"], 1),
        "decode_ratio": round(job["decode_s"] / plain["decode_s"], 2),
        "update_ms": round(1e3 * job["update_s"], 1) if "update_s" in job else "-",
        "mb": round(job["bytes"] / 1e6, 1),
        "mb_ratio": round(job["bytes"] / plain["bytes"], 3),
        "end_mb": round(job["end_bytes"] / 1e6, 1),
        "peak_mb": round(job["peak_bytes"] / 1e6),
    }


def run(path: str | None = None) -> list[Row]:
    """All rows, by context and share kept.

    Raises:
        UserError: there is no environment with kvpress.
    """
    pythons = {"kvpress": kvpress_python(path), "transfer": sys.executable}
    order = ["full", *(method for _, method in METHODS)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder)
        for context in KEPT:
            # The update that is timed needs some more tokens than the prompt.
            ids = torch.randint(VOCABULARY, (context + 512,)).tolist()
            sides = [
                measured(python, folder, ids, jobs_of(tool, context))
                for tool, python in pythons.items()
            ]
            assert abs(sides[0][0]["logit"] - sides[1][0]["logit"]) < 1e-3, "not the same model"
            jobs = [(job, side[0]) for side in sides for job in side]
            jobs.sort(key=lambda job: (-job[0]["asked"], order.index(job[0]["method"])))
            rows += [as_row(*job) for job in jobs]
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="kvpress and transfer beside each other")
    parser.add_argument("--kvpress-python", help="default: what KVPRESS_PYTHON says")
    try:
        rows = run(parser.parse_args().kvpress_python)
    except UserError as error:
        sys.exit(str(error))
    table = new_table(TITLE, list(rows[0]), [[str(cell) for cell in row.values()] for row in rows])
    Console(width=165).print(table)


if __name__ == "__main__":
    main()

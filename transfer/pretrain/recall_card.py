"""The card of a trained recall model: what it was trained on, how, and what it gets right."""

import platform
import shlex
import textwrap
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import Progress
from transformers import PreTrainedModel

from transfer.adapters.scoring import score_batch
from transfer.files import replacing
from transfer.tasks.recall import TASKS, RecallTask, make_batch

if TYPE_CHECKING:
    from transfer.pretrain.recall import RecallPretrainConfig

LENGTHS = (128, 256, 512, 1024)
_TOGETHER = 8192
_PACKAGES = ("torch", "transformers", "numpy")
_ABOUT = {
    "recall": "facts among sentences of noise, four of them asked",
    "overwritten": "facts are stated again with other values, the last one counts",
    "decoys": "six pairs of key and value without a fact's mark, half about keys that are asked",
    "passkey": "a key of four digits among facts, all four to be said",
    "needle": "one fact in real prose (hashed words of docstrings)",
    "prose": "facts in real prose",
}


def accuracy(model: PreTrainedModel, task: RecallTask, length: int, documents: int) -> float:
    """Share of right answers over the documents of seeds from 0 up, with a full cache."""
    model.eval()
    rows = max(1, _TOGETHER // length)
    starts = range(0, documents, rows)
    scores = [
        score_batch(model, make_batch(task, length, range(first, min(first + rows, documents))))
        for first in starts
    ]
    return torch.cat([score.correct for score in scores]).mean().item()


def write_card(
    config: "RecallPretrainConfig", model: PreTrainedModel, seconds: float, progress: Progress
) -> dict[str, dict[int, float]]:
    """Score the stored weights on every kind of task and write `CARD.md`.

    Returns:
        Task -> length -> share of right answers.
    """
    documents = config.report_documents
    bar = progress.add_task("scoring", total=len(TASKS) * len(LENGTHS))
    table: dict[str, dict[int, float]] = {name: {} for name in TASKS}
    for name, task in TASKS.items():
        for length in LENGTHS:
            table[name][length] = accuracy(model, task, length, documents)
            progress.advance(bar)
    sections = (_introduction(config, model), _training(config, seconds), _results(config, table))
    with replacing(config.out / "CARD.md") as partial:
        partial.write_text("\n".join([*sections, _versions()]))
    return table


def command(config: "RecallPretrainConfig") -> str:
    """The command line of this configuration: changed settings only, the folder by base name."""
    words = ["transfer", "pretrain", "recall"]
    for item in fields(config):
        value: Any = getattr(config, item.name)
        if value != item.default:
            words += [f"--{item.name.replace('_', '-')}", f"{getattr(value, 'name', value)}"]
    return shlex.join(words)


def _introduction(config: "RecallPretrainConfig", model: PreTrainedModel) -> str:
    shape, parameters = model.config, sum(weight.numel() for weight in model.parameters())
    kv_heads = getattr(shape, "num_key_value_heads", shape.num_attention_heads)
    text = (
        f"A small {type(model).__name__} that retrieves facts from its context:"
        f" {shape.num_hidden_layers} layers, width {shape.hidden_size},"
        f" {shape.num_attention_heads} heads, {kv_heads} key/value heads, {parameters:,}"
        f" parameters, stored as float16. It reads a language of {shape.vocab_size} symbols"
        " (`transfer.tasks.symbols`) and has no tokenizer."
    )
    return f"# {config.out.name}\n\n{_filled(text)}\n"


def _training(config: "RecallPretrainConfig", seconds: float) -> str:
    stages = ", ".join(
        f"{stage.steps} of {'/'.join(map(str, stage.lengths))}" for stage in config.stages
    )
    steps = sum(stage.steps for stage in config.stages)
    heads = ", ".join(map(str, config.architecture.guided_heads))
    text = (
        f"Seed {config.seed}; {steps} steps of {config.tokens} tokens in {seconds / 60:.1f}"
        f" minutes of one thread. Steps by length of documents: {stages}. The data are synthetic"
        " documents, of all kinds below from length 128 on, drawn from seeds that evaluation does"
        " not use; prose is the docstrings of the standard library of Python"
        f" {platform.python_version()}, each word hashed to a symbol. While documents are short,"
        " two auxiliary losses guide the model: a linear head on the first layer's output guesses"
        " the token before, and some heads are paid for attending to where the answer stands"
        f" (heads {heads} of layer {config.architecture.guided_layer}, counted from 0)."
    )
    if config.plain_longest < config.longest:
        text += (
            f" Of documents longer than {config.plain_longest} tokens it was taught the answers"
            " alone: what it knows of the other tokens' likelihood it learned on short documents,"
            " and a full cache of a long one misleads it there."
        )
    return f"## Training\n\n```\n{command(config)}\n```\n\n{_filled(text)}\n"


def _results(config: "RecallPretrainConfig", table: Mapping[str, Mapping[int, float]]) -> str:
    rows = [
        "## Results",
        "",
        _filled(
            "Share of right answers of the stored weights with a full cache,"
            f" {config.report_documents} documents for each cell (seeds from 0 up), by length of"
            " the documents. Questions stand at the end; an answer is right if all its tokens are"
            " the most likely ones."
        ),
        "",
        f"| task | {' | '.join(map(str, LENGTHS))} | |",
        f"|---|{'---|' * len(LENGTHS)}---|",
    ]
    for name, cells in table.items():
        shown = " | ".join(f"{cells[length]:.3f}" for length in LENGTHS)
        rows.append(f"| {name} | {shown} | {_ABOUT[name]} |")
    return "\n".join(rows) + "\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"## Versions\n\nPython {platform.python_version()}, {packages}.\n"

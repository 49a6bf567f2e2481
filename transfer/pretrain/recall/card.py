"""The card of a trained recall model: what it was trained on, how, and what it gets right."""

import platform

import torch
from rich.progress import Progress
from transformers import PreTrainedModel

from transfer.adapters.scoring import score_batch
from transfer.pretrain.card import command, paragraph, table, write_sections
from transfer.pretrain.recall.config import RecallPretrainConfig
from transfer.provenance import command_line
from transfer.tasks.recall import TASKS, RecallTask, make_batch

LENGTHS = (128, 256, 512, 1024)
_TOGETHER = 8192
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
    config: RecallPretrainConfig, model: PreTrainedModel, seconds: float, progress: Progress
) -> None:
    """Score the stored weights on every kind of task and write `CARD.md`."""
    line = command_line("pretrain recall", config, public=True)
    write_sections(
        config.out,
        [_introduction(model)],
        {
            "Training": [command(line), _training(config, seconds)],
            "Results": _results(config, model, progress),
        },
        ("torch", "transformers", "numpy"),
    )


def _introduction(model: PreTrainedModel) -> str:
    shape, parameters = model.config, sum(weight.numel() for weight in model.parameters())
    kv_heads = getattr(shape, "num_key_value_heads", shape.num_attention_heads)
    return paragraph(
        f"A small {type(model).__name__} that retrieves facts from its context:"
        f" {shape.num_hidden_layers} layers, width {shape.hidden_size},"
        f" {shape.num_attention_heads} heads, {kv_heads} key/value heads, {parameters:,}"
        f" parameters, stored as float16. It reads a language of {shape.vocab_size} symbols"
        " (`transfer.tasks.symbols`) and has no tokenizer."
    )


def _training(config: RecallPretrainConfig, seconds: float) -> str:
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
    return paragraph(text)


def _results(config: RecallPretrainConfig, model: PreTrainedModel, progress: Progress) -> list[str]:
    documents, rows = config.report_documents, []
    bar = progress.add_task("scoring", total=len(TASKS) * len(LENGTHS))
    for name, task in TASKS.items():
        shares = []
        for length in LENGTHS:
            shares.append(f"{accuracy(model, task, length, documents):.3f}")
            progress.advance(bar)
        rows.append((name, *shares, _ABOUT[name]))
    about = (
        f"Share of right answers of the stored weights with a full cache, {documents} documents for"
        " each cell (seeds from 0 up), by length of the documents. Questions stand at the end; an"
        " answer is right if all its tokens are the most likely ones."
    )
    return [paragraph(about), table(("task", *LENGTHS, ""), rows)]

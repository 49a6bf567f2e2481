"""`transfer eval` for language models: the same documents under several cache policies.

Every policy reads the same documents at the same budgets, so that they are compared pair by pair.
Nothing heavy is imported before a run starts, because the command line reads `LanguageEval` for
its help.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from transfer.errors import UserError
from transfer.evaluation.control import DEFAULT_NAMM, FREE
from transfer.evaluation.results import Results
from transfer.provenance import command_line, versions

#: How the name of a task file ends.
RECORDS = ".jsonl"


@dataclass(frozen=True)
class LanguageEval:
    """Let a language model answer questions about long documents under several cache policies.

    Args:
        model: a shipped language model (llama-recall, llama-recall-wide, gpt2-recall), a folder, or
            a hub id. Models with a tokenizer read the documents as text.
        task: recall, overwritten, decoys, passkey, needle or prose; or a file of your own questions
            (.jsonl), lines of {"prompt": "... Answer:", "answer": "red"}.
        policy: who prunes the cache; `all`: every policy. The full cache always runs beside them.
        namm: NAMMs of the policy namm: shipped names, folders or hub ids.
        budget: tokens each head keeps, or fractions (0.25) of the tokens seen; each is run. None:
            the policy's own threshold, where it has one.
        equal_bytes: rules get as many tokens as fit into the bytes of the first NAMM at --budget,
            which keeps more for each token, instead of the same number.
        update_interval: tokens between two evictions.
        eviction: exact, or the original implementation's rule.
        length: tokens of a document that is made; each is run.
        depth: share of the distractors before the facts asked about; by default anywhere.
        documents: documents of each task and length.
        seed: seed of the first document, the others follow.
        batch: documents read at once.
        threads: CPU threads of the model; by default torch's own choice.
        out: folder for results.json, summary.csv and rows.jsonl. A run that was stopped there is
            resumed, to the same numbers.
    """

    model: str
    task: tuple[str, ...] = ("recall",)
    policy: tuple[str, ...] = ("all",)
    namm: tuple[str, ...] = (DEFAULT_NAMM,)
    budget: tuple[int | float | None, ...] = (24,)
    equal_bytes: bool = False
    update_interval: int = 32
    eviction: Literal["exact", "reference"] = "exact"
    length: tuple[int, ...] = (256,)
    depth: float | None = None
    documents: int = 500
    seed: int = 0
    batch: int = 50
    threads: int | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        for name in ("documents", "batch", "threads", "update_interval"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name.replace('_', '-')} is {value}; use 1 or more")
        for name in ("task", "policy", "budget", "length", "namm"):
            values = getattr(self, name)
            if not values:
                raise UserError(f"no {name} was named; name at least one")
            if len(set(values)) < len(values):
                raise UserError(f"{name} {' '.join(map(str, values))}: name each once")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; use 0 or more")
        if min(self.length) < 1:
            raise UserError(f"length is {min(self.length)}; use a positive number of tokens")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the results, as it is written beside them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if name not in FREE}


def evaluate_language(config: LanguageEval) -> Results:
    """Score all documents under all policies and summarise them.

    Ctrl-C ends the run early: the documents done so far are summarised and written, and the
    results say `interrupted`.

    Raises:
        UserError: unknown model, task or policy, a setting they cannot follow, or an output that
            cannot be written; raised before the first document where it can be known then.
    """
    from transfer.evaluation.blocks import BlockFolder
    from transfer.evaluation.language_run import LanguageBlock, Run
    from transfer.evaluation.language_summary import summarise
    from transfer.evaluation.threads import torch_threads

    run = Run(config)
    with (
        BlockFolder(config.out, run.settings, LanguageBlock) as folder,
        torch_threads(config.threads),
    ):
        interrupted = run.play(folder)
        results = Results(
            command=command_line("eval", config),
            versions=versions(),
            seeds=list(run.seeds),
            summary=summarise(run.rows, run.seconds),
            rows=run.rows,
            interrupted=interrupted,
        )
        folder.finish(results)
    return results

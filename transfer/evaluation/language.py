"""`transfer eval language`: what it is told. Nothing heavy is imported, because help reads it."""

from dataclasses import dataclass, field
from typing import ClassVar

from transfer.errors import UserError, check_at_least
from transfer.evaluation.options import (
    ContenderOptions,
    EvalConfig,
    check_names,
)

#: How the name of a task file ends.
RECORDS = ".jsonl"


@dataclass(frozen=True)
class LanguageEval(EvalConfig):
    """Let a language model answer questions about long documents under several cache policies.

    The full cache always runs beside them.

    Args:
        model: a shipped language model (llama-recall, llama-recall-wide, gpt2-recall), a folder, or
            a hub id. Models with a tokenizer read the documents as text.
        task: recall, overwritten, decoys, passkey, needle or prose; a file of your own questions
            (.jsonl), lines of {"prompt": "... Answer:", "answer": "red"}; or package.module:Class,
            a benchmark of your own.
        length: tokens of a document that is made; each is run.
        depth: share of the distractors before the facts asked about; by default anywhere.
        documents: documents of each task and length.
        seed: seed of the first document, the others follow.
        batch: documents read at once.
        trust_remote_code: run the Python that a model from outside brings.
        contenders: who is compared.
        run: how it is run.
    """

    kind: ClassVar[str] = "language"

    model: str
    task: tuple[str, ...] = ("recall",)
    length: tuple[int, ...] = (256,)
    depth: float | None = None
    documents: int = 500
    seed: int = 0
    batch: int = 50
    trust_remote_code: bool = False
    contenders: ContenderOptions = field(
        default_factory=lambda: ContenderOptions(budget=(24,), update_interval=32)
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "documents", "batch")
        for name in ("task", "length"):
            check_names(self, name)
        check_names(self.contenders, "policy")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; use 0 or more")
        if min(self.length) < 1:
            raise UserError(f"length is {min(self.length)}; use a positive number of tokens")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of what is asked."""
        return self.task

"""`transfer eval language`: what it is told. Nothing heavy is imported, because help reads it."""

from dataclasses import dataclass, field
from typing import ClassVar

from transfer.arguments import check_fields
from transfer.errors import MOST_SEED, MOST_TOKENS, UserError, check_at_least
from transfer.evaluation.options import (
    ContenderOptions,
    EvalConfig,
    name_once,
)

#: Tokens of the documents of a batch.
_MOST_AT_ONCE = 10**8


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
        place: where the model computes.
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
        check_fields(self)
        check_at_least(1, self, "documents", "batch")
        for name in ("task", "length"):
            name_once(self, name)
        name_once(self.contenders, "policy")
        check_at_least(0, self, "seed", most=MOST_SEED)
        check_at_least(1, self, "length", most=MOST_TOKENS)
        tokens = min(self.batch, self.documents) * max(self.length)
        if tokens > _MOST_AT_ONCE:
            raise UserError(
                f"--batch {self.batch} documents of {max(self.length)} tokens are {tokens:,} at "
                f"once; use a smaller --batch, for at most {_MOST_AT_ONCE:,}"
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of what is asked."""
        return self.task

"""`transfer eval language`: what it is told. Nothing heavy is imported, because help reads it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from transfer.adapters.kinds import Source
from transfer.arguments import check_fields
from transfer.errors import MOST_SEED, MOST_TOKENS, UserError, check_at_least, percent
from transfer.evaluation.options import (
    ContenderOptions,
    EvalConfig,
    name_once,
)

#: Tokens of the documents of a batch.
_MOST_AT_ONCE = 10**8


#: Documents of each task and length where nothing else is said, of symbols and of text.
MADE, MADE_TEXTS = 500, 100
#: The policy that reads a text twice, which only models that reply in words can.
_CEILING = "kvzip"
#: The task of texts that are only read.
PERPLEXITY = "perplexity"


@dataclass(frozen=True)
class LanguageEval(EvalConfig):
    """Let a language model answer questions about long texts under several cache policies.

    The full cache always runs beside them. Models with a tokenizer read text and reply in words;
    the symbols of the shipped ones are teacher-forced. For texts there is one policy more, kvzip: a
    ceiling, which holds the whole text, reads it twice and prunes once.

    Args:
        model: llama-recall, smollm2-135m, a folder, a GGUF file or a hub id. Shipped are
            llama-recall, llama-recall-wide and gpt2-recall; smollm2-135m comes by `transfer get
            smollm2-135m`.
        task: recall, passkey, needle, perplexity, ruler, longbench, FILE.jsonl and others. Made
            are recall, overwritten, decoys, passkey, needle and prose. For models that read text
            also ruler, niah, longbench, longbench-e, longbench-v2, infinitebench, choubun or
            babilong, or one of their tasks (longbench/qasper); perplexity; a file of your own
            questions (.jsonl), lines of {"context": "...", "question": "...", "answer": "red"}, or
            with a "prompt" whose last line is the question; or package.module:Class, a benchmark
            of your own.
        data: folder or file of a benchmark's data, or of texts; of benchmarks as their authors
            publish them.
        length: tokens of a document that is made, or of a window of a text. Each is run.
        max_length: tokens above which a prompt that is read loses its middle, as its authors do it;
            by default as many as the model has positions for.
        depth: shares of the distractors before the facts asked about; by default anywhere.
        documents: documents of each task and length; by default 500 of the symbols that are made,
            100 of the texts, and all records of a benchmark, of which these are the first.
        seed: seed of the first document, the others follow.
        question: hidden: an update falls on the last token before the question; seen: on the last
            one before the reply. Each is run.
        prompt: how questions are asked: a text to be completed, or the model's chat template; by
            default as the authors of the task do.
        batch: documents of symbols read at once.
        trust_remote_code: run the Python that a model from outside brings.
        contenders: who is compared.
        place: where the model computes.
        run: how it is run.
    """

    kind: ClassVar[str] = "language"

    model: str
    task: tuple[str, ...] = ("recall",)
    data: Path | None = None
    length: tuple[int, ...] = (256,)
    max_length: int | None = None
    depth: tuple[float, ...] = ()
    documents: int | None = None
    seed: int = 0
    question: tuple[Literal["hidden", "seen"], ...] = ("hidden",)
    prompt: Literal["completion", "chat"] | None = None
    batch: int = 50
    trust_remote_code: bool = False
    contenders: ContenderOptions = field(
        default_factory=lambda: ContenderOptions(budget=(24,), update_interval=32)
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(1, self, "documents", "batch")
        for name in ("task", "length", "question"):
            name_once(self, name)
        name_once(self.contenders, "policy")
        check_at_least(0, self, "seed", most=MOST_SEED)
        check_at_least(1, self, "length", most=MOST_TOKENS)
        check_at_least(2, self, "max_length", most=MOST_TOKENS)
        for depth in self.depth:
            if not 0 <= depth <= 1:
                raise UserError(
                    f"depth {depth} is no share; use numbers from 0 to 1{percent(depth)}"
                )
        if PERPLEXITY in self.task and len(self.task) > 1:
            raise UserError(f"task {PERPLEXITY} has other scores than the others; name it alone")
        if any(name.split(":")[0] == _CEILING for name in self.contenders.policy):
            self._check_ceiling()
        tokens = min(self.batch, self.documents or MADE) * max(self.length)
        if tokens > _MOST_AT_ONCE:
            raise UserError(
                f"--batch {self.batch} documents of {max(self.length)} tokens are {tokens:,} at "
                f"once; use a smaller --batch, for at most {_MOST_AT_ONCE:,}"
            )

    def _check_ceiling(self) -> None:
        if "seen" in self.question:
            raise UserError(
                "policy kvzip prunes before the question comes; use --question hidden, or leave it "
                "out"
            )
        if self.contenders.equal_in:
            raise UserError(
                "policy kvzip holds the whole text until it prunes, so nothing makes it equal; "
                "leave it out, or --equal"
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of what is asked."""
        return self.task

    @property
    def benchmark(self) -> str:
        """The benchmark that is run.

        Raises:
            UserError: as `EvalConfig.benchmark`, or there is no such model.
        """
        asked = super().benchmark
        if asked != self.kind:
            return asked
        if self.task == (PERPLEXITY,):
            return PERPLEXITY
        return "text" if Source(self.model).reads_text else "language"

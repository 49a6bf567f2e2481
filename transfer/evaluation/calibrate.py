"""`transfer calibrate`: what it is told. Nothing heavy is imported, because help reads it."""

from dataclasses import dataclass, field
from pathlib import Path

from transfer.adapters.placement import Placement
from transfer.arguments import check_fields
from transfer.errors import MOST_SEED, MOST_TOKENS, UserError, check_at_least, percent
from transfer.evaluation.options import name_once


@dataclass(frozen=True)
class CalibrateConfig:
    """Find the threshold at which a policy holds a share of a model's tokens, for the whole model.

    Where heads and layers need different numbers of tokens, one threshold gives each what it needs;
    the share is held on average over the tokens of the texts, layers and heads. `transfer eval
    --threshold FILE` then prunes by it.

    Args:
        model: a shipped language model, a folder, a GGUF file, or a hub id; smollm2-135m after
            `transfer get smollm2-135m`.
        kept: the share of its tokens that is held, above 0 and below 1.
        policy: who prunes, as `transfer eval` spells it without a budget; h2o, recency and their
            like have no scores that a threshold fits.
        text: files or folders of texts, for models that have a tokenizer.
        task: tasks whose documents are read instead of texts, as recall and passkey.
        length: tokens of each document.
        documents: documents that are read; of each task, or of all texts, spread evenly over them.
        seed: seed of the first document of a task; those of `transfer eval` begin at 0.
        update_interval: tokens between two evictions; the threshold holds for this one.
        threads: CPU threads of the model; by default torch's own choice.
        trust_remote_code: run the Python that a model from outside brings.
        out: file of the threshold.
        place: where the model computes.
    """

    model: str
    kept: float
    policy: str = "namm"
    text: tuple[Path, ...] = ()
    task: tuple[str, ...] = ()
    length: int = 1024
    documents: int = 8
    seed: int = 1_000_000
    update_interval: int = 64
    threads: int | None = None
    trust_remote_code: bool = False
    out: Path = Path("threshold.json")
    place: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.kept < 1:
            raise UserError(
                f"kept is {self.kept}; use a share above 0 and below 1{percent(self.kept)}"
            )
        if bool(self.text) == bool(self.task):
            raise UserError("name either texts to read with --text, or tasks with --task")
        name_once(self, "text" if self.text else "task")
        check_at_least(1, self, "documents", "update_interval")
        check_at_least(1, self, "threads", most=1024)
        check_at_least(0, self, "seed", most=MOST_SEED)
        check_at_least(1, self, "length", most=MOST_TOKENS)
        if self.update_interval > self.length:
            raise UserError(
                f"within a length of {self.length} tokens nothing leaves at an update interval of "
                f"{self.update_interval}; raise the one or lower the other"
            )
        if self.out.suffix != ".json":
            raise UserError(f"out {self.out} is no .json file; rename it")

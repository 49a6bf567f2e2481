"""What `transfer record` can be told. Nothing heavy is imported, for the command line's help."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from transfer.adapters.control_names import is_held_out
from transfer.adapters.placement import Placement
from transfer.arguments import check_fields
from transfer.errors import MOST_SEED, MOST_TOKENS, UserError, check_at_least
from transfer.replay.names import check_apart


@dataclass(frozen=True)
class RecordConfig:
    """Record what the attention of models sees, for `transfer evolve --replay`.

    A language model reads documents of its tasks and of your own texts, a Decision Transformer
    plays episodes in its environment, a video model is asked questions about
    synthetic videos. Queries, keys and values of every full-attention layer are written down in
    half precision, with the gradient of what the model was asked.

    Args:
        out: folder of the records, one file for some sequences. A recording that was stopped there
            is gone on with.
        models: models by shipped name, folder or hub id, of any kind.
        tasks: recall tasks that language models read; `--tasks` without a name: none.
        data: file or folder of your own texts, cut into documents of each length.
        lengths: tokens of a document.
        documents: documents of each model, task or text, and length; likewise episodes, and
            questions.
        env: where Decision Transformers play, instead of each in its own: `tmaze:length=300`.
        steps: steps of an episode at most.
        memory: of Decision Transformers while they are recorded: full, the whole cache; cache, the
            last K steps that the model was trained on, for those that fail with more.
        seed: seed of documents and episodes, none of which reports or validations use; of your own
            texts it says which pieces are taken.
        trust_remote_code: run the Python that a model from outside brings.
        place: where the models compute.

    Raises:
        UserError: a setting is unknown or out of range.
    """

    out: Path
    models: tuple[str, ...] = ("llama-recall",)
    tasks: tuple[str, ...] = ("recall", "overwritten", "passkey", "prose")
    data: Path | None = None
    lengths: tuple[int, ...] = (256,)
    documents: int = 8
    env: tuple[str, ...] = ()
    steps: int = 300
    memory: Literal["full", "cache"] = "full"
    seed: int = 0
    trust_remote_code: bool = False
    place: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        from transfer.tasks.recall import get_task

        check_fields(self)
        for task in self.tasks:
            get_task(task)
        for name in ("models", "lengths"):
            if not getattr(self, name):
                raise UserError(f"--{name} names none; give one or more")
        for model in self.models:
            if is_held_out(model):
                raise UserError(
                    f"{model} is held out, to judge NAMMs by; record another model of its task"
                )
        check_apart(
            "--models",
            {model: Path(model).name for model in self.models},
            "record each into an --out of its own",
        )
        check_at_least(16, self, "lengths", most=MOST_TOKENS)
        check_at_least(1, self, "documents", "steps", most=MOST_TOKENS)
        check_at_least(0, self, "seed", most=MOST_SEED)

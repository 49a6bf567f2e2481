"""What a recall model can be told: its shape, its stages, and the options of the command line."""

from dataclasses import dataclass, replace
from pathlib import Path

from transfer.arguments import check_fields
from transfer.errors import (
    MOST_SEED,
    MOST_TOKENS,
    UserError,
    check_above_zero,
    check_at_least,
    check_finite,
    unknown_name,
)


@dataclass(frozen=True)
class Architecture:
    """The shape of a model to train, a Llama or a GPT-2.

    Attributes:
        layers: transformer blocks.
        width: of the hidden state.
        heads: attention heads.
        kv_heads: of a Llama; None: a GPT-2, whose positions are a table, each row of which needs
            training.
        guided_layer: layer of the heads whose attention is guided at first.
        guided_heads: those heads.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int | None
    guided_layer: int
    guided_heads: tuple[int, ...]


ARCHITECTURES = {
    "llama": Architecture(3, 64, 4, 2, 1, (0,)),
    "llama-wide": Architecture(4, 96, 6, 6, 2, (0, 1)),
    "gpt2": Architecture(3, 64, 4, None, 1, (0,)),
}


@dataclass(frozen=True)
class Stage:
    """Some steps on documents of certain lengths.

    Attributes:
        lengths: tokens of a document; the steps take them in turn.
        steps: optimiser steps.
        guided: whether the auxiliary losses apply.
    """

    lengths: tuple[int, ...]
    steps: int
    guided: bool = False


#: Plain training on long documents stays at guessing one of the facts; short ones with guidance get
#: over that in a few hundred steps, and longer ones then keep it.
STAGES = (
    Stage((32,), 600, guided=True),
    Stage((64,), 600, guided=True),
    Stage((128,), 1500, guided=True),
    Stage((256,), 1200),
    Stage((512,), 1000),
    Stage((1024, 128, 512, 256), 1600),
)


@dataclass(frozen=True)
class RecallPretrainConfig:
    """Train a small language model that retrieves, such as those that are shipped.

    Attributes:
        out: folder of the finished model.
        arch: llama (GQA), llama-wide (wider, deeper, no GQA) or gpt2.
        seed: seed of weights and documents.
        scale: multiplies the steps of every stage.
        longest: tokens of the longest documents; stages of longer ones are left out.
        tokens: tokens of all documents of a step together.
        lr: peak learning rate of AdamW.
        plain: weight of the likelihood of all tokens beside that of the answers.
        plain_longest: tokens of the longest documents of which all count; longer ones are trained
            on for their answers alone, like a model that learned its language on short texts and
            was then taught to retrieve from long ones.
        save_every: steps between two saved states.
        report_documents: documents for each cell of the card's table.
    """

    out: Path
    arch: str = "llama"
    seed: int = 0
    scale: float = 1.0
    longest: int = 1024
    tokens: int = 2048
    lr: float = 3e-3
    plain: float = 0.2
    plain_longest: int = 1024
    save_every: int = 100
    report_documents: int = 512

    def __post_init__(self) -> None:
        check_fields(self)
        if self.arch not in ARCHITECTURES:
            raise unknown_name("architecture", self.arch, ARCHITECTURES)
        # Every step of the run is planned before it begins.
        check_above_zero(self, "scale", most=1000)
        check_above_zero(self, "lr")
        check_finite(self, "plain", least=0)
        check_at_least(1, self, "tokens", "save_every", "report_documents")
        check_at_least(0, self, "seed", most=MOST_SEED)
        check_at_least(0, self, "longest", "plain_longest", most=MOST_TOKENS)
        if not self.stages:
            raise UserError(
                f"--longest is {self.longest}, below the documents of the first stage;"
                f" use at least {STAGES[0].lengths[0]}"
            )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of this run."""
        return tuple(
            replace(stage, steps=max(1, round(stage.steps * self.scale)))
            for stage in STAGES
            if max(stage.lengths) <= self.longest
        )

    @property
    def architecture(self) -> Architecture:
        """The model to train."""
        return ARCHITECTURES[self.arch]

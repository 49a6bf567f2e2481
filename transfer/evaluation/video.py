"""`transfer eval video`: what it is told. Nothing heavy is imported, because help reads it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from transfer.arguments import check_fields
from transfer.errors import UserError, check_above_zero, check_at_least
from transfer.evaluation.options import (
    ContenderOptions,
    EvalConfig,
    name_once,
)

DEFAULT_TASK = "video-recall"
#: Questions about videos made here, such that all policies answer in two or three minutes.
QUICK_QUESTIONS = 80


@dataclass(frozen=True)
class VideoEval(EvalConfig):
    """Ask a video model questions about videos under several cache policies.

    The full cache always runs beside them.

    Args:
        model: llava-next-video (the shipped one), a folder of a video model, or a hub id.
        task: video-recall, video-recall-letters (options with letters) or video-recall-long (128
            frames), which make their own videos, or a benchmark: longvideobench,
            longvideobench-no-subtitles, mlvu, video-mme, video-mme-subtitles, next-qa, egoschema,
            mvbench, lvbench, streamingbench (all of the video before a question),
            streamingbench-60s (its last minute), streamingbench-omni, streamingbench-sqa, jsonl for
            your own questions, or package.module:Class, a benchmark of your own.
        data: folder of the benchmark as its authors publish it, or one of its files; of jsonl, the
            file.
        frames: frames of each video; all of one that has fewer, at most with --fps; by default the
            benchmark's number.
        sampling: which frames; uniform: first and last too; midpoint: of equal segments; segment:
            the beginnings of equal segments; fps: so many a second. By default as the benchmark's
            authors do.
        fps: frames a second for the sampling fps.
        stream: number of the video stream in the files, as ffprobe counts; by default the one a
            file marks as the default, of several the largest.
        questions: questions, spread evenly over the benchmark; by default all. Tasks that make
            their own videos ask the first ones, by default 80, video by video. If there are fewer,
            all are asked.
        chunk: tokens of the prompt that go through the model at once; by default all.
        trust_remote_code: run the Python that a model from outside brings.
        contenders: who is compared.
        place: where the model computes.
        run: how it is run.
    """

    kind: ClassVar[str] = "video"

    model: str
    task: str = DEFAULT_TASK
    data: Path | None = None
    frames: int | None = None
    sampling: Literal["uniform", "midpoint", "segment", "fps"] | None = None
    fps: float | None = None
    stream: int | None = None
    questions: int | None = None
    chunk: int | None = None
    trust_remote_code: bool = False
    contenders: ContenderOptions = field(
        default_factory=lambda: ContenderOptions(budget=(0.5, 0.25, 0.1))
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(1, self, "frames", "questions", "chunk")
        check_at_least(0, self, "stream")
        name_once(self.contenders, "policy")
        check_above_zero(self, "fps", most=1000)
        if (self.sampling == "fps") != (self.fps is not None):
            raise UserError(
                f"sampling is {self.sampling} and fps {self.fps}; give --sampling fps and --fps"
                " together or neither"
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of what is asked."""
        return (self.task,)

    @property
    def most_questions(self) -> int | None:
        """How many questions are asked; None: all."""
        return self.questions or (QUICK_QUESTIONS if self.task.startswith(DEFAULT_TASK) else None)

"""`transfer eval` for video models: the same questions about videos under several cache policies.

Every policy is asked the same questions at the same budgets, so that they are compared pair by
pair. Nothing heavy is imported before a run starts, because the command line reads `VideoEval` for
its help.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from transfer.errors import UserError
from transfer.evaluation.control import DEFAULT_NAMM
from transfer.evaluation.results import Results
from transfer.provenance import command_line, versions

MODEL = "llava-next-video"
MODEL_TYPE = "llava_next_video"
DEFAULT_TASK = "video-recall"
#: Names of `transfer.tasks.benchmarks.BENCHMARKS`, here because importing those takes long.
TASKS = (
    "video-recall", "longvideobench", "longvideobench-no-subtitles", "mlvu", "video-mme",
    "video-mme-subtitles", "next-qa", "egoschema", "mvbench", "jsonl",
)  # fmt: skip
#: Questions of the default task, such that all policies answer them in two or three minutes.
QUICK_QUESTIONS = 70
#: Settings under which a run may go on although they have changed; they change no result.
_FREE = ("out", "threads", "json")


@dataclass(frozen=True)
class VideoEval:
    """Ask a video model questions about videos under several cache policies.

    Args:
        model: llava-next-video (the shipped one), a LLaVA-NeXT-Video folder, or a hub id.
        task: video-recall (makes its own videos), longvideobench, longvideobench-no-subtitles,
            mlvu, video-mme, video-mme-subtitles, next-qa, egoschema, mvbench, or jsonl for your
            own questions.
        data: folder of the benchmark as its authors publish it; of jsonl, the file.
        policy: who prunes the cache; `all`: every policy. The full cache always runs beside them.
        namm: NAMMs of the policy namm: shipped names, folders or hub ids.
        budget: tokens each head keeps, or fractions (0.25) of the tokens seen; each is run. None:
            the policy's own threshold, where it has one.
        equal_bytes: rules get as many tokens as fit into the bytes of the first NAMM at --budget,
            which keeps more for each token, instead of the same number.
        update_interval: tokens between two evictions.
        eviction: exact, or the original implementation's rule.
        frames: of each video, at most with --fps; by default the benchmark's number.
        sampling: which frames; uniform: first and last too; midpoint: of equal segments; segment:
            the beginnings of equal segments; fps: so many a second. By default as the benchmark's
            authors do.
        fps: frames a second for the sampling fps.
        questions: so many, spread evenly over the benchmark; by default all. video-recall asks
            its first ones, by default 70, video by video. If there are fewer, all are asked.
        chunk: tokens of the prompt that go through the model at once; by default all.
        dtype: of the weights; by default as they are stored.
        device_map: where the model runs, such as cuda or auto (needs accelerate).
        threads: CPU threads of the model; by default torch's own choice.
        out: folder for results.json, summary.csv and rows.jsonl. A run that was ended there is
            resumed: finished questions are not asked again, failed ones are.
    """

    model: str
    task: str = DEFAULT_TASK
    data: Path | None = None
    policy: tuple[str, ...] = ("all",)
    namm: tuple[str, ...] = (DEFAULT_NAMM,)
    budget: tuple[int | float | None, ...] = (0.5, 0.25, 0.1)
    equal_bytes: bool = False
    update_interval: int = 64
    eviction: Literal["exact", "reference"] = "exact"
    frames: int | None = None
    sampling: Literal["uniform", "midpoint", "segment", "fps"] | None = None
    fps: float | None = None
    questions: int | None = None
    chunk: int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    device_map: str | None = None
    threads: int | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "questions", "chunk", "threads", "update_interval"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name.replace('_', '-')} is {value}; use 1 or more")
        for name in ("policy", "budget", "namm"):
            values = getattr(self, name)
            if not values:
                raise UserError(f"no {name} was named; name at least one")
            if len(set(values)) < len(values):
                raise UserError(f"{name} {' '.join(map(str, values))}: name each once")
        if self.fps is not None and not self.fps > 0:
            raise UserError(f"fps is {self.fps}; use a positive number")
        if (self.sampling == "fps") != (self.fps is not None):
            raise UserError(
                f"sampling is {self.sampling} and fps {self.fps}; give --sampling fps and --fps"
                " together or neither"
            )

    @property
    def most_questions(self) -> int | None:
        """How many questions are asked; None: all."""
        return self.questions or (QUICK_QUESTIONS if self.task == DEFAULT_TASK else None)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the results, as it is written beside them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = {name: value for name, value in values.items() if name not in _FREE}
        return {**kept, "data": None if self.data is None else str(self.data)}


def evaluate_video(config: VideoEval) -> Results:
    """Ask all questions under all policies and summarise the answers.

    Ctrl-C ends the run early: the questions done so far are summarised and written, and the
    results say `interrupted`. Videos and records that cannot be read are failed rows.

    Raises:
        UserError: unknown model, task or policy, a setting they cannot follow, data that are not
            the benchmark's, or an output that cannot be written or is of a run with other settings;
            raised before the first question.
    """
    from transfer.evaluation.resumed import ResumedFolder
    from transfer.evaluation.threads import torch_threads
    from transfer.evaluation.video_run import Run
    from transfer.evaluation.video_summary import summarise

    run = Run(config)
    with (
        ResumedFolder(config.out, run.settings, "question", run.finished) as folder,
        torch_threads(config.threads),
    ):
        interrupted = run.play(folder)
        results = Results(
            command=command_line("eval", config),
            versions=versions(),
            seeds=[],
            summary=summarise(run.rows, run.benchmark.aggregation, run.benchmark.groupings),
            rows=run.rows,
            interrupted=interrupted,
        )
        folder.finish(results)
    return results

"""The questions of one `transfer eval` for video: asked under every policy, measured how.

Questions about the same frames follow each other, so that a video is decoded once and goes through
the vision tower once, whoever then answers.
"""

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from transformers import Cache, DynamicCache

from transfer.adapters.loading import first_line
from transfer.adapters.video_model import VideoFeatures, VideoModel, load_video_model
from transfer.attachment.memory import Memory
from transfer.cache.footprint import LayerShape
from transfer.errors import UserError, unknown_name
from transfer.evaluation.digest import model_digest, namm_digests, record_digests
from transfer.evaluation.equal_bytes import EqualBytes
from transfer.evaluation.readers import Reader, plan_readers
from transfer.evaluation.results import Row
from transfer.evaluation.resumed import ResumedFolder
from transfer.evaluation.video_held import held
from transfer.evaluation.video_qa import VideoEval
from transfer.tasks.benchmarks import BENCHMARKS
from transfer.tasks.video_prompts import Benchmark, Prompt
from transfer.tasks.video_records import BrokenRecord, VideoQuestion
from transfer.video.frames import Clip, read_clip

#: What one record may do to a run without ending it.
_FAILURES = (UserError, torch.OutOfMemoryError, MemoryError)


@dataclass(frozen=True)
class Watched:
    """A clip and what the vision tower made of it, with the seconds both took."""

    clip: Clip
    features: VideoFeatures
    decode_seconds: float
    vision_seconds: float


class Run:
    """One evaluation; its policies, model and records are looked up before the first question.

    Attributes:
        benchmark: what is asked.
        readers: the full cache, then every policy at every budget.
        digests: of the records, by their ids.
        rows: one for each question, policy and budget, and one for each question that failed.

    Raises:
        UserError: unknown policy, task or model, or data that are not the benchmark's.
    """

    def __init__(self, config: VideoEval) -> None:
        if config.task not in BENCHMARKS:
            raise unknown_name("task", config.task, BENCHMARKS)
        self.config = config
        self.benchmark: Benchmark = BENCHMARKS[config.task]
        self.readers = self._plan()
        dtype = None if config.dtype is None else getattr(torch, config.dtype)
        self.model: VideoModel = load_video_model(config.model, dtype, config.device_map)
        self.records = self.benchmark.read(config.data, config.most_questions)
        if config.equal_bytes:
            self.readers = self._plan(EqualBytes(self._layer(), self._prompt_tokens()))
        self.digests = record_digests(self.records)
        if len(self.records) < (config.questions or 0):
            said = f"{config.task} has {len(self.records)} questions, fewer than"
            print(f"{said} the {config.questions} asked for; all are asked", file=sys.stderr)
        self.rows: list[Row] = []
        # Who has answered, for the progress bar.
        self._tell: Callable[[str], None] = lambda name: None

    def _plan(self, equal: EqualBytes | None = None) -> list[Reader]:
        told = self.config
        return plan_readers(
            told.policy, told.namm, told.budget, told.update_interval, told.eviction, equal
        )

    def _layer(self) -> LayerShape:
        return LayerShape.of(self.model.adapter.config, self.model.model.dtype)

    def _prompt_tokens(self) -> int:
        """Tokens of the first question's prompt."""
        [question, *_] = [one for one in self.records if not isinstance(one, BrokenRecord)]
        frames = self._frames(question)
        prompt = self.benchmark.prompt(question, [0.0] * frames)
        return self.model.prompt_ids(prompt, frames).shape[1]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the results: the options, and what the names in them stand for."""
        return {
            **self.config.settings,
            "model files": model_digest(self.model.model),
            "namm vectors": namm_digests({reader.name: reader.pruning for reader in self.readers}),
        }

    def finished(self, rows: Sequence[Row]) -> list[Row]:
        """Rows of the questions that every policy answered; the others are asked again.

        Rows of a record that has changed or is gone are dropped.
        """
        kept = [row for row in rows if "failed" not in row and self._is_current(row)]
        answered = Counter(row["question"] for row in kept)
        return [row for row in kept if answered[row["question"]] == len(self.readers)]

    def _is_current(self, row: Row) -> bool:
        return row.get("record", "") == self.digests.get(row["question"])

    def play(self, folder: ResumedFolder) -> bool:
        """Ask everything that is not finished; returns whether Ctrl-C ended it early."""
        self.rows = list(folder.earlier)
        finished = {row["question"] for row in self.rows}
        left = [record for record in self.records if record.id not in finished]
        each = len(self.readers)
        try:
            with Progress(console=Console(stderr=True), transient=True) as progress:
                bar = progress.add_task(self.config.task, total=each * len(self.records))
                self._tell = lambda name: progress.update(
                    bar, description=f"{self.config.task} {name}", advance=1
                )
                done = len(self.records) - len(left)
                progress.update(bar, completed=each * done)
                for number, rows in enumerate(self._rows(left), done + 1):
                    # All at once, so that no question is half there.
                    folder.extend(rows)
                    self.rows += rows
                    progress.update(bar, completed=each * number)
        except KeyboardInterrupt:
            return True
        return False

    def _rows(self, records: Sequence[VideoQuestion | BrokenRecord]) -> Iterator[list[Row]]:
        clips: dict[object, list[VideoQuestion]] = {}
        for record in records:
            if isinstance(record, BrokenRecord):
                yield [self._failed(record.id, record.reason)]
            else:
                bounds = (record.start, record.end, record.folder_fps)
                key = (record.video, *bounds, self._frames(record))
                clips.setdefault(key, []).append(record)
        for questions in clips.values():
            yield from self._about_one_clip(questions)

    def _about_one_clip(self, questions: Sequence[VideoQuestion]) -> Iterator[list[Row]]:
        try:
            watched = self._watch(questions[0])
        except _FAILURES as error:
            for question in questions:
                yield [self._failed(question.id, _reason(error), question)]
            return
        # Only the first question had to wait for the video.
        seconds = (watched.decode_seconds, watched.vision_seconds)
        for question in questions:
            try:
                yield self._ask(question, watched, seconds)
            except _FAILURES as error:
                yield [self._failed(question.id, _reason(error), question)]
            else:
                seconds = (0.0, 0.0)

    def _frames(self, question: VideoQuestion) -> int:
        return self.benchmark.frames_of(question, self.config.frames or self.benchmark.frames)

    def _watch(self, question: VideoQuestion) -> Watched:
        config, began = self.config, _now()
        clip = read_clip(
            question.video,
            self._frames(question),
            config.sampling or self.benchmark.sampling,
            fps=config.fps,
            start=question.start,
            end=question.end,
            folder_fps=question.folder_fps,
        )
        decoded = _now()
        features = self.model.encode(clip)
        return Watched(clip, features, decoded - began, _now() - decoded)

    def _ask(
        self, question: VideoQuestion, watched: Watched, seconds: tuple[float, float]
    ) -> list[Row]:
        prompt = self.benchmark.prompt(question, watched.clip.seconds)
        ids = self.model.prompt_ids(prompt, watched.features.frames)
        self.model.check_answers(prompt.answers, prompt.prefill)
        return [
            {
                **self._named(question.id, question),
                "record": self.digests[question.id],
                "policy": reader.name,
                "budget": reader.pruning.budget,
                "answer": question.answer,
                "options": len(question.options),
                "frames": watched.features.frames,
                "decoder": watched.clip.backend,
                **self._answer(question, prompt, reader, ids, watched.features),
                "decode_seconds": seconds[0],
                "vision_seconds": seconds[1],
            }
            for reader in self.readers
        ]

    def _answer(
        self,
        question: VideoQuestion,
        prompt: Prompt,
        reader: Reader,
        ids: torch.Tensor,
        features: VideoFeatures,
    ) -> Row:
        """One prefill; the likelihoods of the options and the generated reply both follow it."""
        with self._cache(reader) as cache:
            began = _now()
            logits = self.model.prefill(ids, features, cache, self.config.chunk)
            filled = _now()
            holds = held(cache, self.model.is_video(ids)[0])
            answered = _now()
            likelihoods = self.model.option_log_likelihoods(
                logits, cache, prompt.answers, prompt.prefill
            )
            reply = self.model.generate(logits, cache, self.benchmark.tokens)
            ended = _now()
        if not all(map(math.isfinite, likelihoods)):
            raise UserError(
                f"record {question.id} has option likelihoods {likelihoods}; use another --dtype"
            )
        self._tell(reader.name)
        said = self.benchmark.parse(reply, question)
        likely = likelihoods.index(max(likelihoods))
        return {
            "log_likelihoods": likelihoods,
            "likely": likely,
            "correct_likelihood": _correct(likely, question),
            "reply": reply,
            "said": said,
            "correct_reply": _correct(said, question),
            **holds,
            "prefill_seconds": filled - began,
            "answer_seconds": ended - answered,
        }

    @contextmanager
    def _cache(self, reader: Reader) -> Iterator[Cache]:
        """The cache of a reader; the full one is the stock cache of the model as it is."""
        if not reader.pruning.policy.evicts:
            yield DynamicCache(config=self.model.adapter.config)
            return
        with Memory(self.model.adapter, reader.pruning) as memory:
            yield memory.new_cache()

    def _failed(self, record: str, reason: str, question: VideoQuestion | None = None) -> Row:
        # The reason names the record, so that it can be read alone.
        named = reason if f"record {record} " in reason else f"record {record}: {reason}"
        # Ids and paths may hold what cannot be printed.
        named = named.encode("utf-8", "backslashreplace").decode()
        return {**self._named(record, question), "failed": named}

    def _named(self, record: str, question: VideoQuestion | None) -> Row:
        row: Row = {"model": self.config.model, "task": self.config.task, "question": record}
        if question is None:
            return row
        groups = ("category", "duration_group", *self.benchmark.groupings)
        return {
            **row,
            "video": str(question.video),
            "cluster": question.group or str(question.video),
            **{name: getattr(question, name) for name in groups},
        }


def _reason(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"too little memory ({first_line(error)}); use fewer --frames, or --chunk"


def _correct(chosen: int | None, question: VideoQuestion) -> float | None:
    """1 or 0; None where nobody but the benchmark's authors know."""
    return None if question.answer is None else float(chosen == question.answer)


def _now() -> float:
    """Seconds, after all that was asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()

"""Questions about videos, each one prefill; and the benchmark that others build on.

Questions about the same frames are a block, so that a video is decoded once and goes through the
vision tower once, whoever then answers. A question is scored twice: by the option that is most
likely right after the prompt, and by what the generated reply says; a reply that says no option is
wrong. One whose answer its authors keep to themselves has costs but no score.
"""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from zlib import crc32

import torch
from transformers import Cache, DynamicCache

from transfer.adapters.placement import computed
from transfer.adapters.video_model import (
    VideoFeatures,
    VideoModel,
    load_video_model,
    unknown_words_said,
)
from transfer.adapters.weights import weights_digest
from transfer.attachment.memory import Memory
from transfer.cache.footprint import LayerShape
from transfer.errors import UserError, unknown_name
from transfer.evaluation.benchmark import Benchmark, Block, Row
from transfer.evaluation.contenders import Contender, full, plan
from transfer.evaluation.digest import model_digest, record_digests
from transfer.evaluation.options import refuse_file
from transfer.evaluation.statistics import grouped_mean
from transfer.evaluation.store import ADDED
from transfer.evaluation.video import VideoEval
from transfer.evaluation.video_held import held
from transfer.evaluation.worker import failure
from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video.archives import archive_of, unpacked
from transfer.tasks.video_prompts import VideoTask
from transfer.tasks.video_records import NONE_RIGHT, BrokenRecord, Prompt, VideoQuestion
from transfer.video.frames import Clip, read_clip

#: What a task may be beside a name.
_READ = "a benchmark of your own is package.module:Class"
_OF_FILES = (
    "a file of your own questions is read with --task jsonl --data FILE.jsonl, one of a benchmark "
    "with its name, as --task mlvu --data FILE.json"
)
_SECONDS = ("decode_seconds", "vision_seconds", "prefill_seconds", "answer_seconds")
_TOKENS = ("kept_video_tokens", "kept_text_tokens", "video_tokens", "frames")


@dataclass(frozen=True)
class Watched:
    """Questions with their clip and what the vision tower made of it, and the seconds both took."""

    questions: Sequence[VideoQuestion]
    clip: Clip
    features: VideoFeatures
    decode_seconds: float
    vision_seconds: float


class VideoBenchmark(Benchmark):
    """Questions with options, as their authors ask and score them.

    To ask questions of your own, override `find_task`.

    Args:
        config: of the evaluation.

    Raises:
        UserError: unknown task or model, or data that are not the benchmark's.
    """

    kind: ClassVar[str] = "video"
    dated = True
    metrics = ("correct_likelihood", "correct_reply")
    means = (*_TOKENS, "video_bytes", "text_bytes")
    sums = _SECONDS

    def __init__(self, config: VideoEval) -> None:
        self.config, self.model = config, config.model
        self.task = self.find_task(config.task)
        self.average_by = "category" if self.task.aggregation == "macro" else None
        self.groups = self.task.groupings
        self.video: VideoModel = load_video_model(
            config.model, trust_remote_code=config.trust_remote_code, **config.place.settings
        )
        self.records = self.task.read(config.data, config.most_questions)
        self._digests = record_digests(self.records)
        if len(self.records) < (config.questions or 0):
            said = f"{config.task} has {len(self.records)} questions, fewer than"
            print(f"{said} the {config.questions} asked for; all are asked", file=sys.stderr)

    def find_task(self, name: str) -> VideoTask:
        """The questions behind the name of a task.

        Raises:
            UserError: there are none.
        """
        refuse_file(name, _OF_FILES)
        if name not in VIDEO_TASKS:
            raise unknown_name("task", name, VIDEO_TASKS, _READ)
        return VIDEO_TASKS[name]

    def contenders(self) -> Sequence[Contender]:
        """The full cache, then every policy at every budget."""
        options = self.config.contenders
        shape = LayerShape.of(self.video.adapter.config, self.video.model.dtype)
        tokens = self._prompt_tokens() if options.equal_in else 0
        return [full(options.update_interval), *plan(options, shape, tokens)]

    def _prompt_tokens(self) -> int:
        """Tokens of the first question's prompt."""
        [question, *_] = [one for one in self.records if not isinstance(one, BrokenRecord)]
        frames = self._frames(question)
        prompt = self.task.prompt(question, [0.0] * frames)
        return self.video.prompt_ids(prompt, self._room(question, frames)).shape[1]

    def _room(self, question: VideoQuestion, frames: int) -> VideoFeatures | int:
        """What a prompt has to know of a video: its frames, or more where that is not enough."""
        if self.video.adapter.frames_say_all:
            return frames
        return self.prepared(Block("first", [], [question])).features

    def blocks(self) -> Sequence[Block]:
        """Records that cannot be read, each alone, then the questions clip by clip."""
        broken = [record for record in self.records if isinstance(record, BrokenRecord)]
        clips: dict[object, list[VideoQuestion]] = {}
        for record in self.records:
            if not isinstance(record, BrokenRecord):
                bounds = (record.start, record.end, record.folder_fps)
                key = (record.video, *bounds, self._frames(record))
                clips.setdefault(key, []).append(record)
        return [
            *(Block(f"broken {one.id}", [self._named(one.id, None)], one) for one in broken),
            *(
                Block(self._block_name(own), [self._named(one.id, one) for one in own], own)
                for own in clips.values()
            ),
        ]

    def prepared(self, block: Block) -> Watched:
        """The clip, decoded and encoded.

        Raises:
            UserError: the record or its video cannot be read.
        """
        if isinstance(block.content, BrokenRecord):
            raise UserError(block.content.reason)
        questions, began = block.content, _now()
        clip = self._clip(questions[0])
        for note in (*clip.notes, *self._unknown(questions)):
            print(note, file=sys.stderr)
        decoded = _now()
        features = self.video.encode(clip)
        return Watched(questions, clip, features, decoded - began, _now() - decoded)

    def _unknown(self, questions: Sequence[VideoQuestion]) -> Iterator[str]:
        """A sentence about each question with words that the model does not know."""
        for question in questions:
            if words := self.video.unknown_words(question.question, *question.options):
                yield f"record {question.id}: {unknown_words_said(words)}"

    def rows(self, ready: Watched, contender: Contender) -> Iterator[Row]:
        """The answers of one contender; a question that cannot be asked fails alone."""
        # Only the first question had to wait for the video.
        seconds = {name: getattr(ready, name) for name in _SECONDS[:2]}
        for question in ready.questions:
            try:
                row = self._ask(question, ready, contender)
            except (UserError, MemoryError, RuntimeError) as error:
                yield {"item": question.id, "failure": failure(error)}
            else:
                yield {**row, **seconds}
                seconds = dict.fromkeys(seconds, 0.0)

    def computed(self) -> dict[str, str]:
        """Of the model."""
        return computed(self.video.model)

    def weights(self) -> str:
        """Digest of the model's."""
        return weights_digest(self.video.model)

    def digest(self) -> dict[str, Any]:
        """Of the model's files; the records' are in the names of the blocks."""
        return {"model files": model_digest(self.video.model)}

    def about(self, rows: Sequence[Row], failed: Sequence[Row]) -> Row:
        """What guessing would score, and what there was to answer."""
        scored = {row["category"] for row in rows if row["answer"] is not None}
        # A record that cannot be read has none.
        there = {row["category"] for row in (*rows, *failed) if "category" in row}
        by = [row[self.average_by] for row in rows] if self.average_by else None
        return {
            "chance": grouped_mean(list(map(_chance, rows)), by),
            "unparsed": sum(row["said"] is None for row in rows),
            "questions": len(rows),
            "withheld": sum(row["answer"] is None for row in rows),
            "none_right": sum(row["answer"] == NONE_RIGHT for row in rows),
            # Rows of an earlier version do not say it.
            "unknown": sum(bool(row.get("unknown_words")) for row in rows),
            "videos": len({row["cluster"] for row in rows}),
            "aggregation": self.task.aggregation,
            "categories": len(there),
            "scored_categories": len(scored),
        }

    def files(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Of every contender that answered all questions whose answers are withheld: what it said,
        as the benchmark's authors take it.
        """
        records = {one.id: one for one in self.records if isinstance(one, VideoQuestion)}
        withheld = {name: one for name, one in records.items() if one.answer is None}
        said: dict[str, list[tuple[VideoQuestion, int | None, str]]] = {}
        for row in rows:
            if row["item"] in withheld and row["failure"] is None:
                budget = "" if row["budget"] is None else f"-{row['budget']}"
                name = re.sub(r"[^\w.=-]+", "-", f"{ADDED}{row['policy']}{budget}.json")
                told = (withheld[row["item"]], row["said"], row["reply"])
                said.setdefault(name, []).append(told)
        whole = {name: own for name, own in said.items() if len(own) == len(withheld)}
        found = {name: self.task.submission(own) for name, own in whole.items()}
        return {name: content for name, content in found.items() if content is not None}

    def _frames(self, question: VideoQuestion) -> int:
        return self.task.frames_of(question, self.config.frames or self.task.frames)

    def _clip(self, question: VideoQuestion) -> Clip:
        """The frames of its video, which may lie in a zip."""
        config, video = self.config, question.video
        try:
            with unpacked(video) as path:
                return read_clip(
                    path,
                    self._frames(question),
                    config.sampling or self.task.sampling,
                    fps=config.fps,
                    start=question.start,
                    end=question.end,
                    folder_fps=question.folder_fps,
                    stream=config.stream,
                )
        except UserError as error:
            if self.task.layout and _is_absent(video):
                raise UserError(f"video {video} does not exist; {self.task.layout}") from error
            raise

    def _ask(self, question: VideoQuestion, watched: Watched, contender: Contender) -> Row:
        prompt = self.task.prompt(question, watched.clip.seconds)
        ids = self.video.prompt_ids(prompt, watched.features)
        self.video.check_answers(prompt.answers, prompt.prefill)
        return {
            "item": question.id,
            "question_text": question.question.strip(),
            "right": _right(question),
            "answer": question.answer,
            "options": len(question.options),
            "unknown_words": [*self.video.unknown_words(question.question, *question.options)],
            "frames": watched.features.frames,
            "decoder": watched.clip.backend,
            **self._answer(question, prompt, contender, ids, watched.features),
        }

    def _answer(
        self,
        question: VideoQuestion,
        prompt: Prompt,
        contender: Contender,
        ids: torch.Tensor,
        features: VideoFeatures,
    ) -> Row:
        """One prefill; the likelihoods of the options and the generated reply both follow it."""
        with self._cache(contender) as cache:
            began = _now()
            logits = self.video.prefill(ids, features, cache, self.config.chunk)
            filled = _now()
            holds = held(cache, self.video.is_video(ids)[0])
            answered = _now()
            likelihoods = self.video.option_log_likelihoods(
                logits, cache, prompt.answers, prompt.prefill
            )
            reply = self.video.generate(logits, cache, self.task.tokens)
            ended = _now()
        if not torch.tensor(likelihoods).isfinite().all():
            raise UserError(
                f"record {question.id} has option likelihoods {likelihoods}; use another --dtype"
            )
        said = self.task.parse(reply, question)
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
    def _cache(self, contender: Contender) -> Iterator[Cache]:
        """The cache of a contender; the full one is the stock cache of the model as it is."""
        pruning = contender.pruning
        if pruning is None or not pruning.policy.evicts:
            yield DynamicCache(config=self.video.adapter.config)
            return
        with Memory(self.video.adapter, pruning) as memory:
            yield memory.new_cache()

    def _block_name(self, questions: Sequence[VideoQuestion]) -> str:
        """Another one if a record or its video is another, so that it is asked again."""
        digests = "-".join(self._digests[question.id] for question in questions)
        return f"{questions[0].id} {crc32(digests.encode()):08x}"

    def _named(self, record: str, question: VideoQuestion | None) -> Row:
        row: Row = {"task": self.config.task, "item": record, "cluster": record}
        if question is None:
            return row
        groups = ("category", "duration_group", *self.groups)
        return {
            **row,
            "cluster": question.group or str(question.video),
            "video": str(question.video),
            "record": self._digests[question.id],
            **{name: _listed(getattr(question, name)) for name in groups},
        }


def _is_absent(video: Path) -> bool:
    """Whether nothing is there, as a file or in a zip; False where nobody may look."""
    try:
        return not video.exists() and archive_of(video) is None
    except OSError:
        return False


def _chance(row: Row) -> float:
    """Of a guess to be right."""
    return 0.0 if row["answer"] == NONE_RIGHT else 1 / row["options"]


def _listed(value: str | tuple[str, ...]) -> str | list[str]:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _correct(chosen: int | None, question: VideoQuestion) -> float | None:
    """1 or 0; None where nobody but the benchmark's authors know."""
    return None if question.answer is None else float(chosen == question.answer)


def _right(question: VideoQuestion) -> list[str]:
    """The options that are right, in words; of a withheld answer none."""
    chosen = question.answer
    return [] if chosen is None or chosen == NONE_RIGHT else [question.options[chosen]]


def _now() -> float:
    """Seconds, after all that was asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()

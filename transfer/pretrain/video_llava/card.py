"""The card of the trained video model: what it was trained on, how, and what it answers."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from transformers import DynamicCache

from transfer.adapters.video_model import VideoModel, load_video_model
from transfer.pretrain.card import command, paragraph, table, write_sections
from transfer.pretrain.video_llava.config import Stage, VideoPretrainConfig
from transfer.pretrain.video_llava.data import HARD
from transfer.pretrain.video_llava.guidance import LAYERS, LOOKS
from transfer.provenance import command_line
from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video_drawing import CODECS
from transfer.tasks.video_recall import FRAMES, KINDS, RecallQuestion, VideoRecall
from transfer.tasks.video_records import VIDEO, Prompt
from transfer.video.frames import read_clip

_ABOUT = {
    "first": "which color appeared first ?",
    "last": "which color appeared last ?",
    "before": "which color came before red ?",
    "after": "which color came after red ?",
    "count": "how many colored shapes appeared ?",
    "exist": "did a red square appear ?",
    "shape": "what shape was the red one ?",
    "side": "on which side was the red one ?",
}


#: Tasks that the card has a table of.
REPORTED = ("video-recall", "video-recall-letters", "video-recall-long")
_ABOUT_RESULTS = (
    "Share of right answers of the stored weights with a full cache, of held-out mp4 files (seeds"
    " from 0 up), a question of every kind to each, asked before the video in one half of them and"
    " after it in the other. Likelihood: the likeliest of the question's options; before, after:"
    " the same by where the question stands; generated: the greedy reply. Blind: without the video;"
    " majority: always the most frequent answer; chance: one of the options at random."
)


@dataclass(frozen=True)
class Scored:
    """How a question was answered.

    Attributes:
        question: with the right answer.
        likely: whether the right option was the likeliest.
        said: whether the generated reply was the right one.
        blind: whether the right option was the likeliest without the video.
    """

    question: RecallQuestion
    likely: bool
    said: bool
    blind: bool


def write_card(config: VideoPretrainConfig, seconds: float, progress: Progress) -> None:
    """Ask the stored model about held-out video files and write `CARD.md`."""
    model = load_video_model(config.out, dtype=torch.float32)
    line = command_line("pretrain video-llava", config, public=True)
    results: list[str] = [paragraph(_ABOUT_RESULTS)]
    for name in REPORTED:
        found = VIDEO_TASKS[name]
        assert isinstance(found, VideoRecall)
        task = replace(found, videos=max(1, config.report_videos * FRAMES // found.frames))
        with tempfile.TemporaryDirectory() as folder:
            scores = score_questions(model, task, Path(folder), progress)
        results += [_about(task), _results(scores)]
    write_sections(
        config.out,
        [_introduction(model)],
        {
            "Training": [command(line), _training(config, seconds)],
            "Results": results,
        },
        ("torch", "transformers", "tokenizers", "numpy", "av"),
    )


def score_questions(
    model: VideoModel, task: VideoRecall, folder: Path, progress: Progress
) -> list[Scored]:
    """Ask every question of a task with a full cache.

    Args:
        model: to be asked.
        task: whose videos are made.
        folder: where.
        progress: shown.
    """
    scores: list[Scored] = []
    seen: dict[Path, Any] = {}
    questions = [one for one in task.read(folder) if isinstance(one, RecallQuestion)]
    for question in progress.track(questions, description="scoring"):
        if question.video not in seen:
            seen = {question.video: model.encode(read_clip(question.video, task.frames))}
        scores.append(_score(model, task, question, seen[question.video]))
    return scores


def _score(model: VideoModel, task: VideoRecall, question: RecallQuestion, features: Any) -> Scored:
    prompt, cache = task.prompt(question, ()), DynamicCache()
    logits = model.prefill(model.prompt_ids(prompt, features), features, cache)
    likely = _likeliest(model, logits, prompt)
    reply = model.generate(logits, cache, task.tokens)
    unseen = replace(prompt, parts=tuple(part for part in prompt.parts if part != VIDEO))
    blind = _likeliest(model, model.prefill(model.prompt_ids(unseen, 0), None, None), prompt)
    right = question.answer
    said = task.parse(reply, question)
    return Scored(question, likely == right, said == right, blind == right)


def _likeliest(model: VideoModel, logits: torch.Tensor, prompt: Prompt) -> int:
    scores = model.option_log_likelihoods(logits, None, prompt.answers)
    return scores.index(max(scores))


def _about(task: VideoRecall) -> str:
    early = ", of which all happens in the first quarter" if task.eventful < 1 else ""
    return f"`{task.name}`: {task.videos} videos of {task.frames} frames{early}."


def _introduction(model: VideoModel) -> str:
    shape = model.model.config.text_config
    vision = model.model.config.vision_config
    _, rows, columns = model.adapter.grid(FRAMES)
    each = rows * columns
    parameters = sum(weight.numel() for weight in model.model.parameters())
    return paragraph(
        f"A small {type(model.model).__name__} that answers questions about synthetic videos"
        " (`transfer.tasks.video_recall`): coloured shapes flash up for a frame or two each, among"
        f" grey ones that move. Text model: {shape.num_hidden_layers} layers, width"
        f" {shape.hidden_size}, {shape.num_attention_heads} heads, {shape.num_key_value_heads}"
        f" key/value heads. Vision: {vision.num_hidden_layers} layers, width"
        f" {vision.hidden_size}, pictures of {vision.image_size} x {vision.image_size},"
        f" {each} tokens a frame, so {FRAMES} frames are"
        f" {FRAMES * each} tokens. {parameters:,} parameters, stored as float16,"
        f" and a vocabulary of {shape.vocab_size} words."
    )


def _training(config: VideoPretrainConfig, seconds: float) -> str:
    stages = ", then ".join(map(_stage, config.stages))
    return paragraph(
        f"Seed {config.seed}; {seconds / 60:.1f} minutes of two threads. The vision tower and the"
        " projector first learn to name colour, shape and column of what each cell of a frame"
        f" shows, and stay as they are; then the text model learns to answer: {stages}. Videos are"
        f" encoded ({', '.join(CODECS)}) and decoded again, and drawn from seeds that evaluation"
        f" does not use; in half of those of more than {FRAMES} frames all happens in the first"
        " quarter. Questions are asked in words, or in the forms of published benchmarks with a"
        " letter for each option. Auxiliary losses help: linear heads on the outputs of"
        f" layers {LAYERS[0]} and {LAYERS[1]}, counted from 0, tell at every flash which colour"
        f" came before it, and how many flashes did, one on layer {LAYERS[2]} the word that"
        f" answers, and one on layer {LAYERS[3]} the letter of an option. A head of layer"
        f" {LOOKS[0]} is told to look at the flash that tells, one of layer {LOOKS[1]} at"
        " the right option; in the last stages where a question is asked ahead"
        f" {config.stages[-1].looks_ahead:g} times as much. The questions about a video are asked"
        " after it in one sequence, each seeing the video and itself alone."
    )


def _stage(stage: Stage) -> str:
    lengths = ", ".join(map(str, dict.fromkeys(stage.frames)))
    videos = (
        f"videos of {lengths} frames each, put together in every step of the flashes of some and"
        f" the grey frames of another of {stage.videos} videos of {FRAMES} frames"
        if stage.mixes
        else f"{stage.videos} videos of {lengths} frames each"
    )
    more = f", of {', '.join(HARD)} {stage.hard:g} times as many as of other kinds"
    return (
        f"{stage.steps} steps of {stage.tokens} video tokens or so, of {videos},"
        f" {stage.letters:.0%} of the questions with letters, {stage.ahead:.0%} of the videos with"
        f" one more ahead of them{more if stage.hard != 1 else ''}"
    )


def _results(scores: Sequence[Scored]) -> str:
    names = ("likelihood", "before", "after", "generated", "blind", "majority", "chance")
    cells = {
        kind: _cells([one for one in scores if one.question.category == kind]) for kind in KINDS
    }
    cells["mean"] = [sum(column) / len(column) for column in zip(*cells.values())]
    rows = [
        (kind, *(f"{cell:.3f}" for cell in found), _ABOUT.get(kind, ""))
        for kind, found in cells.items()
    ]
    return table(("kind", *names, "for example"), rows)


def _cells(scores: Sequence[Scored]) -> list[float]:
    """The columns of the card's table, for the questions of one kind."""
    answers = Counter(one.question.options[one.question.answer or 0] for one in scores)
    where = [
        [one for one in scores if one.question.asked == asked] for asked in ("before", "after")
    ]
    return [
        _share([one.likely for one in scores]),
        *(_share([one.likely for one in some]) for some in where),
        _share([one.said for one in scores]),
        _share([one.blind for one in scores]),
        max(answers.values()) / len(scores),
        sum(1 / len(one.question.options) for one in scores) / len(scores),
    ]


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right) if right else float("nan")

"""Questions about synthetic videos that a video model is asked, each a sequence of its own."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from transfer.adapters.video_model import VideoFeatures, VideoModel, load_video_model
from transfer.errors import UserError
from transfer.replay.config import RecordConfig
from transfer.replay.names import plain
from transfer.replay.runs import Run, Survey, odds
from transfer.tasks.base import FIRST_TRAINING_SEED
from transfer.tasks.video_recall import RecallQuestion, VideoRecall
from transfer.video.frames import Clip, read_clip

#: Of the first video; those of reports are far below.
_FIRST_VIDEO = 500_000
_VIDEOS = 1000
#: Those of training are above the videos of this one.
_MOST_SEED = (FIRST_TRAINING_SEED - _FIRST_VIDEO) // _VIDEOS - 1


def watching(config: RecordConfig, name: str, done: Callable[[str], bool]) -> Iterator[Run]:
    """One question about each of some videos, of one kind after the other.

    Raises:
        UserError: the model cannot be had, or does not know the words of the questions.
    """
    video, task = _loaded(config, name)
    with TemporaryDirectory() as folder:
        questions = [one for one in task.read(Path(folder)) if isinstance(one, RecallQuestion)]
        kinds = len(questions) // config.documents
        for number in range(config.documents):
            # With an even number of kinds each would stand on one side of the video alone.
            place = (number + number // kinds) % kinds
            question = questions[number * kinds + place]
            title = f"{plain(video.name)}-{question.id}"
            if not done(title):
                yield _run(title, video, task, question)


def survey_watching(config: RecordConfig, name: str) -> Survey:
    """By the longest question about the first video; all are of the same words.

    Raises:
        UserError: as `watching`.
    """
    video, task = _loaded(config, name)
    with TemporaryDirectory() as folder:
        questions = replace(task, videos=1).read(Path(folder))
        asked = [one for one in questions if isinstance(one, RecallQuestion)]
        seen = task.frames if video.adapter.frames_say_all else _seen(video, task, asked[0])[1]
    prompts = [task.prompt(one, ()) for one in asked]
    longest = max(video.prompt_ids(prompt, seen).shape[1] for prompt in prompts)
    return Survey.of(video.adapter, config.documents * longest)


def _loaded(config: RecordConfig, name: str) -> tuple[VideoModel, VideoRecall]:
    video = load_video_model(
        name, trust_remote_code=config.trust_remote_code, **config.place.settings
    )
    if config.documents > _VIDEOS:
        raise UserError(f"--documents is {config.documents}; use at most {_VIDEOS} with {name}")
    if config.seed > _MOST_SEED:
        raise UserError(f"--seed is {config.seed}; use at most {_MOST_SEED} with {name}")
    first = _FIRST_VIDEO + _VIDEOS * config.seed
    return video, VideoRecall(videos=config.documents, first=first)


def _seen(
    video: VideoModel, task: VideoRecall, question: RecallQuestion
) -> tuple[Clip, VideoFeatures]:
    clip = read_clip(question.video, task.frames, task.sampling)
    return clip, video.encode(clip)


def _run(title: str, video: VideoModel, task: VideoRecall, question: RecallQuestion) -> Run:
    clip, features = _seen(video, task, question)
    prompt = task.prompt(question, clip.seconds)
    video.check_answers(prompt.answers, prompt.prefill)
    ids = video.prompt_ids(prompt, features)
    options = [video.chat.encode_answer(answer, prompt.prefill)[0] for answer in prompt.answers]
    right = torch.tensor([question.answer], device=ids.device)
    inputs = video.adapter.inputs(ids, features.tensor, features.layout)

    def objective(embeddings: Tensor) -> Tensor:
        given = {**inputs, "inputs_embeds": embeddings}
        outputs = video.model(**given, use_cache=False, logits_to_keep=1)
        return odds(outputs.logits[:, -1, options].float(), right).sum()

    return Run(title, task.name, video.adapter, inputs["inputs_embeds"], objective)

"""How the video model is asked while it learns: in words, and as the published benchmarks ask.

Prompts are those of the benchmarks' own code, and so is the vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers

from transfer.tasks.video import VIDEO_TASKS
from transfer.tasks.video_drawing import COLORS
from transfer.tasks.video_prompts import VideoTask
from transfer.tasks.video_recall import WORDS, Asked, some_options
from transfer.tasks.video_records import LETTERS, VIDEO, VideoQuestion

USER, ASSISTANT, SYSTEM = "USER:", "ASSISTANT:", "SYSTEM:"
#: Benchmarks in whose form is asked; the last two begin with a text of the system's.
PLAIN_FORMS = tuple(
    VIDEO_TASKS[name] for name in ("jsonl", "video-mme", "longvideobench-no-subtitles", "lvbench")
)
SYSTEM_FORMS = (VIDEO_TASKS["mlvu"], VIDEO_TASKS["mvbench"])


@dataclass(frozen=True)
class Put:
    """A question as it is put.

    Attributes:
        text: of it, with its options if they have letters.
        answer: a word, or a letter.
        word: that it stands for.
        flash: place of the flash that tells, where one does.
        system: what the conversation begins with.
        prefill: how the answer begins.
    """

    text: str
    answer: str
    word: str
    flash: int | None
    system: str = ""
    prefill: str = ""


def put(one: Asked, form: VideoTask | None, rng: np.random.Generator) -> Put:
    """A question in the form of a benchmark, with some of its options; None: in words alone."""
    if form is None:
        return Put(one.text, one.answer, one.answer, one.flash)
    options = some_options(one, rng)
    text = one.text[0].upper() + one.text[1:] if rng.random() < 0.5 else one.text
    question = VideoQuestion("asked", Path("video"), text, options, options.index(one.answer))
    prompt = form.prompt(question, ())
    said = "".join(part for part in prompt.parts if part != VIDEO)
    letter = LETTERS[options.index(one.answer)]
    return Put(said, letter, one.answer, one.flash, prompt.system, prompt.prefill)


def cut(text: str) -> list[str]:
    """The words and signs of a text, as the tokenizer cuts it."""
    return [piece for piece, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]


def vocabulary() -> list[str]:
    """Everything that is asked and answered, in the order in which it first comes."""
    said = [" ".join((USER, ASSISTANT, SYSTEM)), *WORDS, *LETTERS]
    said += [word.capitalize() for word in WORDS]
    rng = np.random.default_rng(0)
    colors = tuple(COLORS)
    asked = Asked("first", "which color appeared first ?", colors, colors[0])
    for form in (*PLAIN_FORMS, *SYSTEM_FORMS):
        one = put(asked, form, rng)
        said += [one.system, one.text, one.prefill]
    return list(dict.fromkeys(cut(" ".join(said))))

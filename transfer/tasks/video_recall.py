"""Questions about synthetic videos: what flashed up, in which order, of which shape, on which side.

Two to eight coloured shapes flash up for a frame or two each, one after the other and each in one
cell of the picture (but for a pixel, where the camera shakes), while grey shapes move about in all
frames. So an answer is in very few of the video's tokens, and whoever reads cannot tell from the
place which. Half of the questions are asked before the video, half after it; answered by a word, or
by the letter of an option.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from transfer.files import cache_folder, replacing
from transfer.tasks.video_drawing import (
    CELL,
    COLORS,
    RATE,
    SHAPES,
    SIDE,
    Flash,
    Frames,
    draw,
    encode,
)
from transfer.tasks.video_prompts import VideoTask, asked, letters, parse_letter
from transfer.tasks.video_records import VIDEO, BrokenRecord, Prompt, VideoQuestion

#: Of the files; a change of what is drawn or asked needs another.
VERSION = "2"
FRAMES = 32
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight")
SIDES = ("left", "right")
#: What is asked, in the order of the tables.
KINDS = ("first", "last", "before", "after", "count", "exist", "shape", "side")
_LONGEST, _MARGIN = 2, 6.5
_SIZES = (0.8, 1.1)
#: Most options that have letters, as in most benchmarks.
_LETTERED = 5


@dataclass(frozen=True)
class Asked:
    """A question about a video, in words of `WORDS`.

    Attributes:
        kind: one of `KINDS`.
        text: the question.
        options: the possible answers.
        answer: the right one.
        flash: place of the flash that tells, in order of time, where one does.
    """

    kind: str
    text: str
    options: tuple[str, ...]
    answer: str
    flash: int | None = None


def most_flashes(frames: int) -> int:
    """How many flashes a video of so many frames has at most."""
    return min(len(NUMBERS) + 1, (frames + 1) // (_LONGEST + 1))


def make_flashes(frames: int, rng: np.random.Generator) -> list[Flash]:
    """Flashes of different colours, in order of time, with a frame or more between them."""
    count = int(rng.integers(2, most_flashes(frames) + 1))
    lengths = rng.integers(1, _LONGEST + 1, count)
    gaps = _split(frames - int(lengths.sum()) - (count - 1), count + 1, rng)
    starts = np.cumsum(gaps[:-1]) + np.arange(count) + np.cumsum([0, *lengths[:-1]])
    colors = rng.permutation(list(COLORS))[:count].tolist()
    return [
        make_flash(color, int(rng.integers(16)), int(start), int(length), rng)
        for color, start, length in zip(colors, starts, lengths)
    ]


def make_flash(color: str, cell: int, start: int, length: int, rng: np.random.Generator) -> Flash:
    """A flash of any shape, somewhere within its cell."""
    row, column = divmod(cell, SIDE // CELL)
    x, y = rng.uniform(_MARGIN, CELL - _MARGIN, 2).tolist()
    shape = SHAPES[rng.integers(len(SHAPES))]
    size = float(rng.uniform(*_SIZES))
    return Flash(color, shape, column * CELL + x, row * CELL + y, start, length, size)


def make_video(
    seed: int, frames: int = FRAMES, eventful: float = 1.0
) -> tuple[list[Flash], Frames]:
    """The flashes and the pictures of a seed.

    Args:
        seed: of everything.
        frames: of the video.
        eventful: the share of them, at the beginning, that all flashes are in.
    """
    rng = np.random.default_rng(seed)
    flashes = make_flashes(round(frames * eventful), rng)
    return flashes, draw(flashes, frames, rng)


def all_questions(flashes: Sequence[Flash], rng: np.random.Generator) -> Iterator[Asked]:
    """Every question about a video; of those whether a shape appeared as many yes as no."""
    colors, end = tuple(COLORS), len(flashes) - 1
    yield Asked("first", "which color appeared first ?", colors, flashes[0].color, 0)
    yield Asked("last", "which color appeared last ?", colors, flashes[-1].color, end)
    number = NUMBERS[end - 1]
    yield Asked("count", "how many colored shapes appeared ?", NUMBERS, number, end)
    for place, (one, next_one) in enumerate(itertools.pairwise(flashes), 1):
        before = f"which color came before {next_one.color} ?"
        yield Asked("before", before, colors, one.color, place)
        after = f"which color came after {one.color} ?"
        yield Asked("after", after, colors, next_one.color, place)
    for place, flash in enumerate(flashes):
        yield Asked("shape", f"what shape was the {flash.color} one ?", SHAPES, flash.shape, place)
        side = SIDES[int(flash.x >= SIDE / 2)]
        yield Asked("side", f"on which side was the {flash.color} one ?", SIDES, side, place)
        yield _existence(flash.color, flash.shape, "yes", place)
        color, shape = _absent(flash, flashes, rng)
        yield _existence(color, shape, "no", place if color == flash.color else None)


def _existence(color: str, shape: str, answer: str, flash: int | None) -> Asked:
    return Asked("exist", f"did a {color} {shape} appear ?", ("yes", "no"), answer, flash)


def _absent(flash: Flash, flashes: Sequence[Flash], rng: np.random.Generator) -> tuple[str, str]:
    """What did not appear: every other time its colour did, in another shape."""
    missing = [color for color in COLORS if color not in {one.color for one in flashes}]
    if missing and rng.random() < 0.5:
        return missing[rng.integers(len(missing))], SHAPES[rng.integers(len(SHAPES))]
    others = [shape for shape in SHAPES if shape != flash.shape]
    return flash.color, others[rng.integers(len(others))]


def _split(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """So many whole numbers from 0 up that add up to `total`, all ways equally likely."""
    cuts = np.sort(rng.permutation(total + parts - 1)[: parts - 1])
    return np.diff([-1, *cuts, total + parts - 1]) - 1


def _words() -> tuple[str, ...]:
    flashes = [Flash(color, shape, 0.0, 0.0, 0, 1) for color in COLORS for shape in SHAPES]
    asked = list(all_questions(flashes[:8], np.random.default_rng(0)))
    said = " ".join(one.text for one in asked).split()
    return tuple(dict.fromkeys([*said, *COLORS, *SHAPES, *NUMBERS, *SIDES, "yes", "no"]))


#: Everything that questions and answers are made of.
WORDS = _words()


@dataclass(frozen=True)
class RecallQuestion(VideoQuestion):
    """A question that stands before or after its video.

    Attributes:
        asked: where it stands.
    """

    asked: Literal["before", "after"] = "after"


@dataclass(frozen=True)
class VideoRecall(VideoTask):
    """Held-out videos, each with a question of every kind.

    The files are made when they are first asked for, and kept in `data`, by default in the user's
    cache folder.

    Attributes:
        videos: how many.
        first: seed of the first.
        lettered: whether a letter is asked for, of up to five options.
        eventful: the share of the frames, at the beginning, that all flashes are in.
    """

    name: str = "video-recall"
    frames: int = FRAMES
    tokens: int = 4
    aggregation: Literal["micro", "macro"] = "macro"
    groupings: tuple[str, ...] = ("category", "asked")
    videos: int = 96
    first: int = 0
    lettered: bool = False
    eventful: float = 1.0

    def read(
        self, data: Path | None = None, questions: int | None = None
    ) -> list[VideoQuestion | BrokenRecord]:
        """The questions, video by video; the first ones if not all are wanted.

        Args:
            data: folder of the video files, made where they are missing; None: the cache folder.
            questions: so many; None: all.

        Raises:
            UserError: the folder cannot be written to.
        """
        folder = default_folder() if data is None else data
        found: list[VideoQuestion | BrokenRecord] = []
        for seed in range(self.first, self.first + self.videos):
            if questions is not None and len(found) >= questions:
                break
            found += self._questions(seed, folder)
        return found[:questions]

    def prompt(self, question: VideoQuestion, clip_seconds: Sequence[float]) -> Prompt:
        """The question after the video, or ahead of it."""
        ahead = isinstance(question, RecallQuestion) and question.asked == "before"
        text = asked(question) if self.lettered else question.question
        parts = (text + " ", VIDEO) if ahead else (VIDEO, "\n" + text)
        return Prompt(parts, letters(question.options) if self.lettered else question.options)

    def parse(self, reply: str, question: VideoQuestion) -> int | None:
        """The first word of the reply that is an option; of lettered ones, as usual."""
        if self.lettered:
            return parse_letter(reply, question.options)
        said = (word.strip(".,!").lower() for word in reply.split())
        return next(
            (question.options.index(word) for word in said if word in question.options), None
        )

    def _questions(self, seed: int, folder: Path) -> list[RecallQuestion]:
        path = folder / f"{seed:06}{self._looks}.mp4"
        flashes, pictures = make_video(seed, self.frames, self.eventful)
        if not path.exists():
            with replacing(path) as partial:
                partial.write_bytes(encode(pictures))
        rng = np.random.default_rng((seed, 1))
        return [
            self._question(path, seed + place, one, rng)
            for place, one in enumerate(one_of_each(flashes, rng))
        ]

    @property
    def _looks(self) -> str:
        """What tells its files from those of the other tasks of this kind."""
        usual = (self.frames, self.eventful) == (FRAMES, 1.0)
        return "" if usual else f"-{self.frames}-{self.eventful:g}"

    def _question(
        self, path: Path, turn: int, one: Asked, rng: np.random.Generator
    ) -> RecallQuestion:
        options = some_options(one, rng) if self.lettered else one.options
        return RecallQuestion(
            id=f"{path.stem}-{one.kind}",
            video=path,
            question=one.text,
            options=options,
            answer=options.index(one.answer),
            category=one.kind,
            duration=self.frames / RATE,
            asked="before" if turn % 2 else "after",
        )


def some_options(one: Asked, rng: np.random.Generator) -> tuple[str, ...]:
    """Two to five of a question's options in any order, the right one among them."""
    most = min(len(one.options), _LETTERED)
    others = [option for option in one.options if option != one.answer]
    count = int(rng.integers(2, most + 1)) if most > 2 else most
    chosen = [one.answer, *rng.permutation(others)[: count - 1].tolist()]
    return tuple(rng.permutation(chosen).tolist())


def one_of_each(flashes: Sequence[Flash], rng: np.random.Generator) -> list[Asked]:
    """A question of every kind about a video."""
    asked = list(all_questions(flashes, rng))
    of_kind = {kind: [one for one in asked if one.kind == kind] for kind in KINDS}
    return [some[rng.integers(len(some))] for some in of_kind.values()]


def default_folder() -> Path:
    """Where the files are kept unless the user says otherwise."""
    return cache_folder() / "video-recall" / VERSION

"""What the video model is trained on: videos of the training seeds, many questions to each.

All questions that are asked after a video stand in one sequence. Each sees the video and itself,
at the positions it would have alone, so that this equals asking them one at a time.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from transfer.pretrain.video_llava.forms import (
    ASSISTANT,
    PLAIN_FORMS,
    SYSTEM,
    SYSTEM_FORMS,
    USER,
    Put,
    put,
)
from transfer.pretrain.video_llava.model import DEVIATION, MEAN, TOKENS_PER_FRAME
from transfer.tasks.video_drawing import CODECS, COLORS, SHAPES, Flash, decode, encode
from transfer.tasks.video_prompts import VideoTask
from transfer.tasks.video_recall import NUMBERS, SIDES, Asked, all_questions, make_video
from transfer.tasks.video_records import LETTERS

IGNORED = -100
#: Kinds of questions that take more than one look at the video.
HARD = ("before", "after", "count")
#: Every word that answers.
ANSWERS = (*COLORS, *NUMBERS, *SHAPES, *SIDES, "yes", "no")
_NOTHING = (IGNORED,) * 5
#: Videos before which a system's text stands, beside the share of lettered questions.
_SYSTEM_SHARE = 0.4


@dataclass(frozen=True)
class QuestionBatch:
    """Sequences of a video and questions about it.

    Attributes:
        ids: token ids.
        positions: their positions.
        visible: which token (row) sees which.
        targets: what comes next, where that is (the end of) an answer; else `IGNORED`.
        weights: of the targets.
        ahead: whether the target belongs to a question asked before the video.
        halfway: of tokens that show a flash: colour of the one before, counted from 1 (0: none),
            and how many came before; of those that an answer follows: its place in `ANSWERS`; of
            an option's: which letter it has; of those that an answer follows: how many flashes
            came before the one that tells it; `IGNORED` elsewhere.
    """

    ids: Int[Tensor, "videos tokens"]
    positions: Int[Tensor, "videos tokens"]
    visible: Bool[Tensor, "videos tokens tokens"]
    targets: Int[Tensor, "videos tokens"]
    weights: Float[Tensor, "videos tokens"]
    ahead: Bool[Tensor, "videos tokens"]
    halfway: Int[Tensor, "videos tokens 5"]

    @property
    def answered(self) -> Bool[Tensor, "videos tokens"]:
        """Where there is a target."""
        return self.targets != IGNORED


def read_back(
    seed: int, frames: int, eventful: float = 1.0
) -> tuple[list[Flash], UInt8[np.ndarray, "frames y x 3"]]:
    """The video of a seed as it is seen by who reads the file, with all that coding does to it.

    See `make_video`.
    """
    flashes, pictures = make_video(seed, frames, eventful)
    how = np.random.default_rng((seed, 2)).choice(list(CODECS))
    return flashes, decode(encode(pictures, how))


def normalized(pixels: UInt8[np.ndarray, "*many y x 3"]) -> Float[Tensor, "*many 3 y x"]:
    """Pixels as the model takes them."""
    mean, deviation = torch.tensor(MEAN), torch.tensor(DEVIATION)
    return ((torch.as_tensor(pixels) / 255 - mean) / deviation).movedim(-1, -3)


class Packer:
    """Makes sequences of videos and questions.

    Args:
        tokenizer: of the model.
        questions: most tokens of questions and answers to a video that are asked after it.
        letters: share of the questions whose options have letters.
        weight: of a question asked before, of which there is at most one to a video, beside one
            asked after.
        hard: how many times as many questions of the `HARD` kinds as of another.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        questions: int = 256,
        letters: float = 0.5,
        weight: float = 10.0,
        hard: float = 1.0,
    ) -> None:
        self.tokenizer, self.questions = tokenizer, questions
        self.lettered, self.weight, self.hard = letters, weight, hard
        known = tokenizer.get_vocab()
        self.video = known["<video>"]
        self.letters, self.marks, self.answers = (
            [known[word] for word in words] for words in (LETTERS, ".)", ANSWERS)
        )

    def batch(
        self,
        stories: Sequence[Sequence[Flash]],
        frames: int,
        rng: np.random.Generator,
        before: float = 0.5,
    ) -> QuestionBatch:
        """One sequence for each video; a share of them with a question ahead of the video."""
        rows = [self._row(story, frames, rng, rng.random() < before) for story in stories]
        longest = max(len(row) for row in rows)
        table = torch.zeros(len(rows), longest, 5 + len(_NOTHING), dtype=torch.long)
        table[..., 2], table[..., 3], table[..., 5:] = -1, IGNORED, IGNORED
        for index, row in enumerate(rows):
            table[index, : len(row)] = torch.tensor(row)
        ids, positions, blocks, targets, ahead = table[..., :5].unbind(-1)
        same = (blocks[:, :, None] == blocks[:, None, :]) | (blocks[:, None, :] == 0)
        visible = same & torch.ones(longest, longest, dtype=torch.bool).tril()
        weights = torch.where(ahead > 0, self.weight, 1.0)
        return QuestionBatch(ids, positions, visible, targets, weights, ahead > 0, table[..., 5:])

    def _row(
        self, story: Sequence[Flash], frames: int, rng: np.random.Generator, before: bool
    ) -> list[tuple[int, ...]]:
        """Token, position, block, target, whether asked ahead, and halfway, of every place."""
        systems = not before and rng.random() < _SYSTEM_SHARE * self.lettered
        forms = [SYSTEM_FORMS[rng.integers(len(SYSTEM_FORMS))]] if systems else PLAIN_FORMS
        share = 1.0 if systems else self.lettered
        asked = (put(one, _form(forms, share, rng), rng) for one in _drawn(story, rng, self.hard))
        first = next(asked)
        system = f"{SYSTEM} {first.system} " if systems else ""
        begins = [self.tokenizer.bos_token_id, *self._ids(f"{system}{USER} ")]
        begins += self._ids(first.text) if before else []
        video = [self.video] * (frames * TOKENS_PER_FRAME)
        order = _order(story, len(begins))
        row = [
            (
                token,
                at,
                0,
                IGNORED,
                0,
                *order.get(at, self._option(begins[max(0, at - 2) : at + 1])),
            )
            for at, token in enumerate([*begins, *video])
        ]
        start = len(row)
        row += self._tail("" if before else first.text, first, start, 1, int(before))
        most = (len(row) if before else start) + self.questions
        for block, one in enumerate(asked, 2):
            tail = self._tail(one.text, one, start, block, 0)
            if len(row) + len(tail) > most:
                break
            row += tail
        return row

    def _tail(
        self, text: str, one: Put, start: int, block: int, ahead: int
    ) -> list[tuple[int, ...]]:
        """What stands behind a video, of one question."""
        ask = self._ids(f"{text} {ASSISTANT} {one.prefill}")
        said = [*ask, *self._ids(one.answer), self.tokenizer.eos_token_id]
        word, flash = ANSWERS.index(one.word), IGNORED if one.flash is None else one.flash
        found = []
        for at, (token, after) in enumerate(itertools.pairwise(said)):
            target = after if at >= len(ask) - 1 else IGNORED
            halfway = self._option(said[max(0, at - 2) : at + 1])
            if at == len(ask) - 1:
                halfway = (*_NOTHING[:2], word, IGNORED, flash)
            found.append((token, start + at, block, target, ahead, *halfway))
        return found

    def _option(self, said: Sequence[int]) -> tuple[int, ...]:
        """Halfway, of the last token: the letter of an option, by the two before it: A. or A)."""
        known = (self.letters, self.marks, self.answers)
        lettered = len(said) == 3 and all(one in some for one, some in zip(said, known))
        return *_NOTHING[:3], self.letters.index(said[0]) if lettered else IGNORED, IGNORED

    def _ids(self, text: str) -> list[int]:
        # The tokenizer itself takes a tenth of the time around it.
        return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


def _form(forms: Sequence[VideoTask], share: float, rng: np.random.Generator) -> VideoTask | None:
    return forms[int(rng.integers(len(forms)))] if rng.random() < share else None


def _order(story: Sequence[Flash], first: int) -> dict[int, tuple[int, ...]]:
    """Order of the flashes by token, where the video begins at the token `first`."""
    colors = [0, *(list(COLORS).index(flash.color) + 1 for flash in story)]
    return {
        first + frame * TOKENS_PER_FRAME + flash.cell: (colors[index], index, *_NOTHING[2:])
        for index, flash in enumerate(story)
        for frame in flash.frames
    }


def _drawn(story: Sequence[Flash], rng: np.random.Generator, hard: float) -> list[Asked]:
    """All questions, in turns of one of every kind and `hard` of the hard ones, in any order."""
    asked = list(all_questions(story, rng))
    turns: dict[str, int] = {}
    ranked = []
    for index in rng.permutation(len(asked)):
        one = asked[index]
        turn = turns.get(one.kind, 0)
        turns[one.kind] = turn + 1
        ranked.append(((turn + rng.random()) / (hard if one.kind in HARD else 1.0), one))
    ranked.sort(key=lambda item: item[0])
    return [one for _, one in ranked]

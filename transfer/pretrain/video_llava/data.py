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

from transfer.pretrain.video_llava.model import (
    ASSISTANT,
    DEVIATION,
    MEAN,
    TOKENS_PER_FRAME,
    USER,
)
from transfer.tasks.video_drawing import COLORS, Flash, decode, encode
from transfer.tasks.video_recall import Asked, all_questions, make_video

IGNORED = -100
_NO_ORDER = (IGNORED, IGNORED)


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
        order: of tokens that show a flash: colour of the one before, counted from 1 (0: none), and
            how many came before; `IGNORED` elsewhere.
    """

    ids: Int[Tensor, "videos tokens"]
    positions: Int[Tensor, "videos tokens"]
    visible: Bool[Tensor, "videos tokens tokens"]
    targets: Int[Tensor, "videos tokens"]
    weights: Float[Tensor, "videos tokens"]
    ahead: Bool[Tensor, "videos tokens"]
    order: Int[Tensor, "videos tokens 2"]

    @property
    def answered(self) -> Bool[Tensor, "videos tokens"]:
        """Where there is a target."""
        return self.targets != IGNORED


def read_back(seed: int, frames: int) -> tuple[list[Flash], UInt8[np.ndarray, "frames y x 3"]]:
    """The video of a seed as it is seen by who reads the file, with all that coding does to it."""
    flashes, pictures = make_video(seed, frames)
    return flashes, decode(encode(pictures))


def normalized(pixels: UInt8[np.ndarray, "*many y x 3"]) -> Float[Tensor, "*many 3 y x"]:
    """Pixels as the model takes them."""
    mean, deviation = torch.tensor(MEAN), torch.tensor(DEVIATION)
    return ((torch.as_tensor(pixels) / 255 - mean) / deviation).movedim(-1, -3)


class Packer:
    """Makes sequences of videos and questions.

    Args:
        tokenizer: of the model.
        questions: most questions to a video that are asked after it.
        weight: of a question asked before, of which there is at most one to a video, beside one
            asked after.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, questions: int = 14, weight: float = 10.0
    ) -> None:
        self.vocabulary = tokenizer.get_vocab()
        self.questions, self.weight = questions, weight

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
        table = torch.zeros(len(rows), longest, 7, dtype=torch.long)
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
        """Token, position, block, target, whether asked ahead, and order, of every place."""
        asked = _drawn(story, rng, self.questions + before)
        first = asked.pop() if before else None
        ahead = first.text.split() if first else []
        prefix = ["<s>", USER, *ahead, *["<video>"] * (frames * TOKENS_PER_FRAME)]
        order = _order(story, 2 + len(ahead))
        row = [
            (token, at, 0, IGNORED, 0, *order.get(at, _NO_ORDER))
            for at, token in enumerate(self._ids(prefix))
        ]
        tails = [([ASSISTANT], first.answer, 1)] if first else []
        tails += [([*one.text.split(), ASSISTANT], one.answer, 0) for one in asked]
        for block, (ask, answer, is_ahead) in enumerate(tails, 1):
            said = self._ids([*ask, answer, "</s>"])
            for at, (token, after) in enumerate(itertools.pairwise(said)):
                target = after if at >= len(ask) - 1 else IGNORED
                row.append((token, len(prefix) + at, block, target, is_ahead, *_NO_ORDER))
        return row

    def _ids(self, words: list[str]) -> list[int]:
        return [self.vocabulary[word] for word in words]


def _order(story: Sequence[Flash], first: int) -> dict[int, tuple[int, int]]:
    """Order of the flashes by token, where the video begins at the token `first`."""
    colors = [0, *(list(COLORS).index(flash.color) + 1 for flash in story)]
    return {
        first + frame * TOKENS_PER_FRAME + flash.cell: (colors[index], index)
        for index, flash in enumerate(story)
        for frame in flash.frames
    }


def _drawn(story: Sequence[Flash], rng: np.random.Generator, most: int) -> list[Asked]:
    """Questions of all kinds in turn, those of a kind in any order."""
    asked = list(all_questions(story, rng))
    asked = [asked[index] for index in rng.permutation(len(asked))]
    turns: dict[str, int] = {}
    ranked = []
    for one in asked:
        turns[one.kind] = turns.get(one.kind, 0) + 1
        ranked.append((turns[one.kind], one))
    ranked.sort(key=lambda item: item[0])
    chosen = [one for _, one in ranked[:most]]
    return [chosen[index] for index in rng.permutation(len(chosen))]

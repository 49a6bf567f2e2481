"""A helping hand: what has to be known half-way to the answer.

Which flash came before another is seldom found by chance, as the two are far apart and few. So
linear guesses are made in the middle of the text model, of the colour before and of the number of
flashes so far, at the tokens that show a flash; where an answer comes next, of the word that
answers, which a letter stands for; and at the options, of their letters. They are not part of the
stored model.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from transfer.pretrain.video_llava.data import ANSWERS, IGNORED, QuestionBatch
from transfer.tasks.video_drawing import COLORS
from transfer.tasks.video_recall import NUMBERS
from transfer.tasks.video_records import LETTERS

#: Layers, counted from 0, whose outputs tell the colour before, the number so far, the word, and an
#: option's letter.
LAYERS = (1, 2, 3, 1)


class HalfwayReader(nn.Module):
    """Linear guesses of what came before a flash, of the word that answers, and of letters."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (len(COLORS) + 1, len(NUMBERS) + 1, len(ANSWERS), len(LETTERS))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size)) for size in sizes
        )

    def forward(
        self, hidden: Sequence[Float[Tensor, "videos tokens width"]], batch: QuestionBatch
    ) -> tuple[Float[Tensor, ""], list[int]]:
        """Loss, and of each kind of guess how many are right, and how many there are.

        Args:
            hidden: embeddings, then the output of every layer.
            batch: that the model read.
        """
        loss, right = torch.zeros(()), []
        for head, layer, wanted in zip(self.heads, LAYERS, batch.halfway.unbind(-1)):
            shown = wanted != IGNORED
            guess = head(hidden[layer + 1][shown])
            lost = nn.functional.cross_entropy(guess, wanted[shown], reduction="sum")
            # Questions in words have no options.
            loss = loss + lost / max(1, len(guess))
            right += [int((guess.argmax(-1) == wanted[shown]).sum()), int(shown.sum())]
        return loss, right
